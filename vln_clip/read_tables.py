"""Episodes as a text encoder reads them: instructions of a split, of one episode, and what a speaker wrote."""

from dataclasses import replace

from torch import Tensor

from vln_clip.connectivity import NavTables
from vln_clip.envs.compiled import compiled_table
from vln_clip.envs.episodes import TOKEN, EpisodeTable
from vln_clip.envs.ragged import Ragged
from vln_clip.tasks.split import Split
from vln_clip.tasks.stored import StoredSplit
from vln_clip.tasks.text import EOS, Vocabulary
from vln_clip.token_reader import TokenReader
from vln_clip.token_states import LateStates


def read_table(
    split: Split, words: EpisodeTable, tables: NavTables, reader: TokenReader, max_input: int
) -> EpisodeTable:
    """Return a split with its instructions as a text encoder reads them.

    Its states are computed here, once; those of a stored split, which may have millions of instructions, whenever a
    batch is gathered. A tower that is trained gets tokens.

    Args:
        split: whose instructions are read.
        words: the same split as words of a vocabulary.
        tables: graphs of its buildings.
        reader: the text encoder.
        max_input: most tokens per instruction.
    """
    device = words.viewpoint.device
    if isinstance(split, StoredSplit):
        tokens = compiled_table(split, tables, reader, max_input, device).tokens
        return replace(words, tokens=tokens if reader.trained else LateStates(tokens, reader.tower, reader.empty))
    return with_texts(words, [episode.instruction for episode in split.episodes], reader, max_input)


def with_texts(words: EpisodeTable, texts: list[str], reader: TokenReader, max_input: int) -> EpisodeTable:
    """Return episodes (N) with the instructions ``texts`` (N) as a text encoder reads them."""
    if not reader.trained:
        return replace(words, tokens=reader.states(texts, max_input))
    arrays = reader.encode_batch(texts, max_input)
    return replace(words, tokens=Ragged.of_padded(*arrays, words.viewpoint.device, dtype=TOKEN, fill=0))


def read_written(words: Tensor, vocabulary: Vocabulary, reader: TokenReader, max_input: int) -> tuple[Tensor, Tensor]:
    """Let a text encoder read what a speaker wrote.

    Args:
        words: (B, L) int64, as ``Speaker.describe`` returns them.
        vocabulary: the speaker's.
        reader: the text encoder.
        max_input: most tokens per instruction, as of people's.

    Returns:
        What ``Batch`` holds as tokens, and lengths (B,).
    """
    texts = [vocabulary.decode(vocabulary.shrink([*ids, EOS])) for ids in words.tolist()]
    return reader.read(texts, max_input)
