"""What the kernel keeps a document reader from: files, system calls, privileges."""
