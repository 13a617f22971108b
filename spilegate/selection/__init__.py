"""Selection: which patterns show single particles: by their sizes, by what one density explains, by 2-D classes."""
