"""Running nnU-Net models: from a model folder and a volume to a class for each voxel."""
