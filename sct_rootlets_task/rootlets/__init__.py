"""What a level map is made of: components, bundles, the centerline, millimeters."""
