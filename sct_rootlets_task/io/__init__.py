"""Reading and writing: images, label maps, names of files, the disk."""
