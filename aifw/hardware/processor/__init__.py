"""The processor: its cores, what they can do, and how warm and fast they run."""
