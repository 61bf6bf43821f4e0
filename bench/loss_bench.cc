// Forward and backward from C++: our cross-entropy against torch's own, interleaved by the runner.
#include <benchmark/benchmark.h>

#include "ood/ood.h"
#include "ood/torch.h"

namespace {

struct Data {
  at::Tensor logits, target;
  Data(std::int64_t rows, std::int64_t classes)
      : logits(torch::randn({rows, classes}).requires_grad_()),
        target(torch::randint(0, classes, {rows})) {}
};

template <class Loss>
void run(benchmark::State& state, const Loss& loss) {
  const Data d(state.range(0), state.range(1));
  for (auto _ : state) {
    d.logits.mutable_grad().reset();
    loss(d).backward();
  }
}

void ours(benchmark::State& state) {
  run(state, [](const Data& d) { return ood::nn::functional::cross_entropy(d.logits, d.target); });
}
void torchs(benchmark::State& state) {
  run(state,
      [](const Data& d) { return torch::nn::functional::cross_entropy(d.logits, d.target); });
}

void shapes(benchmark::internal::Benchmark* b) {
  b->Args({128, 10})->Args({512, 1000})->Args({4096, 1000})->UseRealTime();
}
BENCHMARK(ours)->Apply(shapes)->Name("cross_entropy/ours");
BENCHMARK(torchs)->Apply(shapes)->Name("cross_entropy/torch");

}  // namespace

int main(int argc, char** argv) {
  torch::manual_seed(0);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
