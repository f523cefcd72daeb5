"""What happens at each validation: a follower or the speaker is scored, and some of what it did is shown."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from vln_clip import glance
from vln_clip.agents.follower import Follower
from vln_clip.agents.speaker import Speaker
from vln_clip.envs.episodes import EpisodeTable
from vln_clip.envs.evaluation import score_walks, walk_scores, walk_split
from vln_clip.envs.navigation import Navigation
from vln_clip.events import Sights
from vln_clip.job import Job
from vln_clip.losses import word_loss
from vln_clip.sampler import in_order
from vln_clip.setting import TRAIN, VALIDATION
from vln_clip.tasks.bleu import corpus_bleu
from vln_clip.tasks.metrics import NDTW, SDTW, SPL, SUCCESS_RATE, summarize
from vln_clip.tasks.statistics import summarize_by
from vln_clip.tasks.text import EOS

LANGUAGE_METRICS = (SUCCESS_RATE, SPL, NDTW, SDTW)  # the others would fill pages
BLOCK = 128  # walks described at once


@dataclass
class FollowerValidation:
    """Greedy decoding on the validation splits, and on some of the training split.

    Attributes:
        job: the run.
        stage: name of what is trained.
        world: with the features that the follower sees.
        follower: what is trained.
        train_rows: (n,) rows of the training split; None leaves it out.
    """

    job: Job
    stage: str
    world: Navigation
    follower: Follower
    train_rows: Tensor | None
    _seen: dict[str, list[glance.Trace]] = field(default_factory=dict)

    def __call__(self) -> dict[str, dict[str, float]]:
        """Return ``{split: {metric: value}}``; in multilingual data sets also of ``split/language``."""
        self.follower.eval()
        found: dict[str, dict[str, float]] = {}
        for split in validation_splits(self.job):
            found |= self._score(split)
        if self.train_rows is not None:
            train = self.job.setting.table(TRAIN)
            walks = walk_split(
                self.world,
                self.follower,
                train,
                self.job.config.follower.max_action,
                rows=self.train_rows,
                ranks=self.job.ranks,
            )
            found[TRAIN] = score_walks(self.world, train, walks)
        self.follower.train()
        return found

    def look(self) -> Sights:
        """Return maps of fixed episodes with what the follower did at the last call."""
        return glance.walks(self._seen, self.world.tables)

    def _score(self, split: str) -> dict[str, dict[str, float]]:
        """Walk a split, keep some walks to be looked at, and return its scores."""
        table = self.job.setting.table(split)
        max_action = self.job.config.follower.max_action
        walks = walk_split(self.world, self.follower, table, max_action, ranks=self.job.ranks)
        scores = walk_scores(self.world, table, walks)
        rows = glance.spread(len(table), glance.NUM_WALKS)
        self._seen[split] = [glance.trace(self.stage, table, walks, scores, row) for row in rows]
        found = {split: summarize(scores)}
        if self.job.setting.dataset.is_multilingual:
            by_language = summarize_by(scores, [episode.language for episode in table.episodes])
            for language, metrics in by_language.items():
                found[f"{split}/{language}"] = {name: metrics[name] for name in LANGUAGE_METRICS}
        return found


@dataclass
class SpeakerValidation:
    """BLEU, loss and accuracy of words on the validation splits.

    Attributes:
        job: the run.
        speaker: what is trained.
    """

    job: Job
    speaker: Speaker
    _seen: dict[str, list[glance.Description]] = field(default_factory=dict)

    def __call__(self) -> dict[str, dict[str, float]]:
        """Return ``{split: {metric: value}}``."""
        return {split: self._score(split) for split in validation_splits(self.job)}

    def look(self) -> Sights:
        """Return what the speaker wrote of fixed paths at the last call, beside what people wrote."""
        return glance.descriptions(self._seen)

    @torch.no_grad()
    def _score(self, split: str) -> dict[str, float]:
        """Return BLEU of one greedy description per path, and loss and accuracy of words over the whole split."""
        table, vocabulary = self.job.setting.word_table(split), self.job.setting.vocabulary
        rows: dict[tuple[str, str], list[int]] = {}  # a description in each language
        for row, episode in enumerate(table.episodes):
            rows.setdefault((episode.path_id, episode.language), []).append(row)
        written = self._describe(table, [of_path[0] for of_path in rows.values()])
        references = [
            [vocabulary.tokenizer.tokenize(table.episodes[row].instruction) for row in of_path]
            for of_path in rows.values()
        ]
        paths = list(dict.fromkeys(path_id for path_id, _ in rows))
        chosen = {paths[number] for number in glance.spread(len(paths), glance.NUM_DESCRIBED)}
        self._seen[split] = [
            glance.Description(table.episodes[of_path[0]], self._text(ids))
            for of_path, ids in zip(rows.values(), written, strict=True)
            if table.episodes[of_path[0]].path_id in chosen
        ]
        texts = [[vocabulary.words[index] for index in vocabulary.shrink(ids)] for ids in written]
        return {"bleu": corpus_bleu(texts, references)} | self._score_words(table)

    def _text(self, ids: list[int]) -> str:
        """Return what the speaker wrote, also where it found no end (which BLEU counts as nothing)."""
        vocabulary, ended = self.job.setting.vocabulary, EOS in ids
        words = [vocabulary.words[index] for index in vocabulary.shrink(ids if ended else [*ids, EOS])]
        return vocabulary.tokenizer.join(words) + ("" if ended else f" … (no end within {len(ids)} words)")

    def _describe(self, table: EpisodeTable, rows: list[int]) -> list[list[int]]:
        """Return the ids of words that the speaker writes of the paths at rows, each in the language of its row."""
        multilingual, written = bool(self.job.setting.vocabulary.languages), []
        for part in self.job.ranks.deal(list(in_order(len(rows), BLOCK))):
            batch = table.batch(torch.tensor(rows)[part])
            tags = batch.tokens[:, 1] if multilingual else None
            walk = self.job.world.observe_walk(batch)
            written.append(self.speaker.describe(walk, self.job.config.speaker.max_decode, first=tags).tolist())
        return [words for block in self.job.ranks.gather_dealt(written) for words in block]

    def _score_words(self, table: EpisodeTable) -> dict[str, float]:
        """Return loss and accuracy of the next words of every instruction."""
        dealt: list[tuple[float, int, int]] = []
        for rows in self.job.ranks.deal(list(in_order(len(table), BLOCK))):
            batch = table.batch(rows)
            logits = self.speaker(self.job.world.observe_walk(batch), batch.tokens, batch.length)
            target = batch.tokens[:, 1:]
            real = target != 0
            correct = int(((logits[:, :-1].argmax(-1) == target) & real).sum())
            dealt.append((float(word_loss(logits, batch.tokens)) * int(real.sum()), correct, int(real.sum())))
        losses, corrects, counts = zip(*self.job.ranks.gather_dealt(dealt), strict=True)
        return {"loss": sum(losses) / sum(counts), "word_accuracy": sum(corrects) / sum(counts)}


def validation_splits(job: Job) -> list[str]:
    """Return the splits that checkpoints are chosen by and looked at on."""
    return [split for split in VALIDATION if split in job.setting.splits]
