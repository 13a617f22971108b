"""The front door for notebooks and scripts: what `import spilegate` names, and how it shows itself."""
