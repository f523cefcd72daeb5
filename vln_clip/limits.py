"""The largest inputs that readers of files take. Public data lies far below; what lies above is damage or an attack.

Readers stop at a bound, not after it. A file that is really so large can be given unpacked, or cut into several.
"""

# Of a file that is read as a whole, unpacked. The largest public ones are the augmented paths of R2R, about 0.4 GB.
MAX_WHOLE_BYTES = 1 << 30

# How much larger than the file its unpacked content may be: annotations and predictions pack 3 to 30 times, text that
# repeats itself 1000 times. Small files need no bound.
MAX_UNPACKED_RATIO = 200
MAX_SMALL_BYTES = 1 << 26

# Lists in lists and objects in objects; annotations have 5 levels, tokenizers about 10.
MAX_NESTING = 64

# One object of a file that is read object by object. Lines of RxR have some 10,000 characters, and the vocabulary with
# embeddings that lies beside R2R-CE's episodes some millions.
MAX_OBJECT_CHARS = 1 << 24
MAX_BLANK_LINES = 1000  # between two of them; a gzip bomb of line ends would keep the reader busy for minutes
MAX_MEMBER_CHARS = 1 << 26

# One line of a TSV file: 36 views of 2,048 columns are 0.4 MB.
MAX_LINE_BYTES = 1 << 26

# Columns of features; the widest of a public encoder, the concatenation of six of them, stays below 20,000.
MAX_FEATURE_WIDTH = 1 << 16

# One array of a pose trace: 7 viewpoints with a mask of 128 x 256 are 0.2 MB, ten minutes of snapshots 2 MB.
MAX_TRACE_BYTES = 1 << 28

# One skybox image: a strip of six faces of 2,048 pixels has 25 million, one of 4,096 pixels 100 million.
MAX_SKYBOX_PIXELS = 1 << 27

# One photograph to be encoded: those of COCO have 0.3 million, of a large camera 100 million.
MAX_IMAGE_PIXELS = 1 << 27

# One array of features of an image, unpacked: a grid of 42 x 71 cells of 2,560 channels in float32 is 31 MB.
MAX_ARRAY_BYTES = 1 << 28

# Coordinates of viewpoints: the earth's surface in metres, and far from where float32 ends.
MAX_COORDINATE_M = 1e8

# Compressed members of an archive of weights: the code of a TorchScript module, some 100 kB; tensors are never packed.
MAX_CODE_BYTES = 1 << 26

# One caption, or its words together. Those of COCO have up to 250 characters.
MAX_CAPTION_CHARS = 10_000
