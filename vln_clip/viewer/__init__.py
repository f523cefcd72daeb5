"""Pictures of agents that walk: page, live server, maps, videos and contact sheets of ``vln_clip.visualize``."""
