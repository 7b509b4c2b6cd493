"""Where the bytes of images come from: the web (`http`) and local files (`local`), under one `spec`."""
