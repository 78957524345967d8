import sys
from pathlib import Path

# Test modules are imported by path, so what they share has to be found some other way.
sys.path.insert(0, str(Path(__file__).parent))
