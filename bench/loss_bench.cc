// Forward and backward from C++ of every objective of the registry, and torch's own cross-entropy;
// interleaved by the runner.
#include <benchmark/benchmark.h>

#include "ood/ood.h"
#include "ood/torch.h"

namespace {

constexpr std::int64_t kWidth = 128;  // of features and embeddings that are not one a class

// A module of any objective on random rows, half of them outliers where it uses them.
class Step {
 public:
  Step(const ood::ObjectiveEntry& entry, std::int64_t rows, std::int64_t classes)
      : core_(entry.name, entry.defaults(), {entry.slice.by_class ? classes : kWidth, kWidth}, {}),
        head_(torch::nn::Linear(kWidth, classes)) {
    core_.start(module_);
    for (const ood::Input& input : entry.slice.inputs) {
      const bool wide =
          input.name == "features" || (input.name == "embedding" && entry.slice.by_dimension);
      inputs_.push_back(input.source == ood::Input::kFurther
                            ? torch::randn({rows})
                            : torch::randn({rows, wide ? kWidth : classes}));
      inputs_.back().requires_grad_();
    }
    auto target = torch::randint(0, entry.ood_is_last_class ? classes - 1 : classes, {rows});
    if (entry.uses_ood) target.slice(0, rows / 2).fill_(-1);
    if (entry.slice.target != "target") target.clamp_max_(0);
    inputs_.push_back(target);
  }

  void operator()() {
    for (auto& t : inputs_) t.mutable_grad().reset();
    for (auto& p : module_.parameters()) p.mutable_grad().reset();
    const auto head = [&](const at::Tensor& f) { return head_->forward(f); };
    core_.loss(inputs_, /*training=*/true, head, std::nullopt).backward();
  }

 private:
  torch::nn::Module module_;
  ood::nn::CriterionCore core_;
  torch::nn::Linear head_;
  std::vector<at::Tensor> inputs_;
};

void torchs(benchmark::State& state) {
  const auto logits = torch::randn({state.range(0), state.range(1)}).requires_grad_();
  const auto target = torch::randint(0, state.range(1), {state.range(0)});
  for (auto _ : state) {
    logits.mutable_grad().reset();
    torch::nn::functional::cross_entropy(logits, target).backward();
  }
}

void shapes(benchmark::internal::Benchmark* b) {
  b->Args({128, 10})->Args({512, 1000})->Args({4096, 1000})->UseRealTime();
}

}  // namespace

int main(int argc, char** argv) {
  torch::manual_seed(0);
  for (const ood::ObjectiveEntry* entry : ood::objectives())
    benchmark::RegisterBenchmark((std::string(entry->name) + "/ours").c_str(),
                                 [entry](benchmark::State& state) {
                                   Step step(*entry, state.range(0), state.range(1));
                                   for (auto _ : state) step();
                                 })
        ->Apply(shapes);
  benchmark::RegisterBenchmark("cross_entropy/torch", torchs)->Apply(shapes);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
