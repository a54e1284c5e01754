"""The streams of random numbers: runs of earlier versions had these numbers, and no two are alike."""

from epo_lightning.experience.streams import Stream, derive_seed


def test_the_numbers_of_the_streams_stay() -> None:
    assert [int(stream) for stream in Stream] == [0, 1, 2, 3, 4, 5, 6]
    # numpy.random.SeedSequence([0, 0, 2]).generate_state(1) and ([0, 4])
    assert (derive_seed(0, 0, Stream.ROLLOUT), derive_seed(0, Stream.EVOLUTION)) == (2926792190, 1874364848)


def test_no_two_are_alike() -> None:
    seeds = [derive_seed(seed, rank, stream) for seed in range(3) for rank in range(3) for stream in Stream]
    assert len(set(seeds)) == 63
