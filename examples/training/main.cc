// A training loop of one's own in C++: a network, an objective of logits and one with state, scores
// fitted to the features, how well they detect, and a threshold with its promise.
#include <ood/ood.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>

#include <cstdio>
#include <memory>

namespace {

constexpr std::int64_t kClasses = 4, kInputs = 16, kFeatures = 32;

struct Network : torch::nn::Module {
  torch::nn::Linear body{register_module("body", torch::nn::Linear(kInputs, kFeatures))};
  torch::nn::Linear head{register_module("head", torch::nn::Linear(kFeatures, kClasses))};

  ood::NetworkOutput forward(const at::Tensor& inputs) {
    const auto features = torch::relu(body->forward(inputs));
    return {head->forward(features), features};
  }
};

// A cloud for each class.
std::pair<at::Tensor, at::Tensor> samples(const at::Tensor& centers, std::int64_t n) {
  const auto labels = torch::randint(kClasses, {n}, torch::kLong);
  return {centers.index_select(0, labels) + torch::randn({n, kInputs}), labels};
}

std::vector<double> numbers(const at::Tensor& scores) {
  const auto s = scores.to(at::kDouble).contiguous();
  return {s.const_data_ptr<double>(), s.const_data_ptr<double>() + s.numel()};
}

}  // namespace

int main() try {
  torch::manual_seed(0);
  const auto centers = 2 * torch::randn({kClasses, kInputs});
  Network network;
  // Rows with a target below 0 are outliers. CenterLoss keeps its centers as parameters.
  ood::nn::OutlierExposureLoss exposure(ood::nn::OutlierExposureLossOptions().alpha(0.5));
  ood::nn::CenterLoss center(kClasses, kFeatures);
  auto trained = network.parameters();
  for (const auto& p : center->parameters()) trained.push_back(p);
  torch::optim::SGD optimizer(trained, torch::optim::SGDOptions(0.05).momentum(0.9));
  for (int step = 0; step < 200; ++step) {
    const auto [x, y] = samples(centers, 96);
    const auto inputs = torch::cat({x, 4 * torch::randn({32, kInputs})});
    const auto target = torch::cat({y, torch::full({32}, -1, torch::kLong)});
    const auto out = network.forward(inputs);
    const auto loss = exposure(out.logits, target) + 0.01 * center(out.features, target);
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
  }

  const torch::NoGradGuard no_grad;
  const auto [train, labels] = samples(centers, 2000);
  ood::FitData data;
  const auto seen = network.forward(train);
  data.logits = seen.logits;
  data.features = seen.features;
  data.labels = labels;
  data.weight = network.head->weight;
  data.bias = network.head->bias;
  const auto held_out = network.forward(samples(centers, 500).first);
  const auto id = network.forward(samples(centers, 500).first);
  const auto unknown = network.forward(2 * torch::randn({500, kInputs}) + 1);
  for (const char* name : {"energy", "knn", "mds_pp"}) {
    const ood::ScoreEntry& score = ood::get_score(name);
    const auto state = ood::fit_score(score, score.defaults(), data);
    const auto of = [&](const ood::NetworkOutput& output) {
      return numbers(ood::compute_score(score, score.defaults(), output, state));
    };
    const auto d = ood::detection(of(id), of(unknown));
    // At most 5 % of ID inputs are rejected, with 95 % confidence over the held-out ones.
    const auto t = ood::threshold_for(of(held_out), 0.05, 0.95);
    std::int64_t rejected = 0;
    for (const double s : of(id)) rejected += s > t.value;
    std::printf("%s: AUROC %.3f, FPR95 %.3f, threshold %.4g rejects %.1f %% of new ID inputs\n",
                name, d.auroc, d.fpr95, t.value, static_cast<double>(rejected) / 5);
  }
  return 0;
} catch (const c10::Error& e) {  // its what() has a backtrace, too
  std::fprintf(stderr, "training: %s\n", e.what_without_backtrace());
  return 1;
} catch (const std::exception& e) {
  std::fprintf(stderr, "training: %s\n", e.what());
  return 1;
}
