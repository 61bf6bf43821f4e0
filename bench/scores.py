"""Fitting and computing scores: times beside the bare matrix products that they consist of, and faiss where it is
installed. Run by hand: .deps/peers/bin/python bench/scores.py [--queries N] [--bank N] [--dimension D]"""
import argparse
import resource
import statistics
import time

import torch

import ood


def median(f, repeats=5):
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    times = times[1:]
    return statistics.median(times), min(times), max(times)


def line(name, t, beside=None):
    print(f"{name:44} {t[0]:7.3f} s ({t[1]:.3f} to {t[2]:.3f})" + (f"  {t[0] / beside[0]:.2f} times" if beside else ""))


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser()
    for name, default in (("queries", 10000), ("bank", 50000), ("dimension", 512), ("classes", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    a = parser.parse_args()
    torch.manual_seed(0)
    labels = torch.arange(a.bank) % a.classes
    centers = torch.randn(a.classes, a.dimension)
    bank = (centers[labels] + torch.randn(a.bank, a.dimension)).relu()
    queries = (centers[torch.arange(a.queries) % a.classes] + torch.randn(a.queries, a.dimension)).relu()
    unit_bank, unit_queries = (torch.nn.functional.normalize(t) for t in (bank, queries))

    knn = ood.scores.KNN(k=50).fit(features=bank)
    before = peak()
    knn(features=queries)
    print(f"peak memory of scoring: {peak() - before:.0f} MB above the bank of {bank.numel() * 4 / 2**20:.0f} MB")
    out = torch.empty(2048, 4096)

    def products():
        for i in range(0, a.queries, 2048):
            q = unit_queries[i:i + 2048]
            for j in range(0, a.bank, 4096):
                b = unit_bank[j:j + 4096]
                torch.mm(q, b.T, out=out[:len(q), :len(b)])

    bare = median(products)
    line("bare products in blocks", bare)
    line("knn, k 50", median(lambda: knn(features=queries)), bare)
    try:
        import faiss
        faiss.omp_set_num_threads(torch.get_num_threads())
        index = faiss.IndexFlatL2(a.dimension)
        index.add(unit_bank.numpy())
        line("faiss IndexFlatL2", median(lambda: index.search(unit_queries.numpy(), 50)), bare)
    except ImportError:
        print("faiss is not installed")

    weight, bias = centers / a.dimension, torch.zeros(a.classes)
    logits = bank @ weight.T
    held_out = logits[:5000] + torch.randn(5000, a.classes)
    parts = dict(logits=logits, features=bank, labels=labels, weight=weight, bias=bias, held_out_logits=held_out,
                 held_out_labels=labels[:5000])
    names = sorted(ood.scores.scores())
    for dtype in (torch.float, torch.double):
        x = bank.to(dtype)
        basis = median(lambda: torch.linalg.eigh(torch.cov(x.T)))
        line(f"torch.cov and eigh, {str(dtype)[6:]}", basis)
        line("fit of all scores together, float32 features", median(lambda: ood.scores.fit_all(names, **parts)), basis)
    for name in names:
        cls = ood.scores.scores()[name]
        score = cls()
        line(f"  {name}: fit alone", median(lambda: score.fit(**parts), 3))
    all_scores = ood.scores.fit_all(names, **parts)
    query_logits = queries @ weight.T
    for name, score in all_scores.items():
        line(f"  {name}: {a.queries} queries", median(lambda: score(logits=query_logits, features=queries), 3))


if __name__ == "__main__":
    main()
