"""Filters: functions from columns to keep or drop-with-reason. They never read pixels."""
