#include "ood/models/lean_layers.h"

#include <gtest/gtest.h>

#include "ood/torch.h"

namespace ood {
namespace {

// Output, gradients and running statistics of a function of x and its layers.
struct Seen {
  at::Tensor out;
  std::vector<at::Tensor> gradients;
  at::Tensor mean, variance, batches;
};

template <class Of>
Seen seen(const Of& of, bool affine, bool lean) {
  torch::manual_seed(1);
  BatchNorm2d norm(torch::nn::BatchNorm2dOptions(6).affine(affine));
  torch::nn::Conv2d conv(torch::nn::Conv2dOptions(6, 5, 3).stride(2).padding(1).bias(false));
  norm->to(torch::kDouble);
  conv->to(torch::kDouble);
  if (affine) {
    const torch::NoGradGuard guard;
    norm->weight.uniform_(-1, 1);
    norm->bias.uniform_(-1, 1);
  }
  auto x = torch::randn({4, 6, 9, 11}, torch::kDouble).requires_grad_();
  Seen s;
  s.out = of(x, norm, conv, lean);
  const auto weight = torch::randn_like(s.out);
  std::vector<at::Tensor> inputs = {x};
  if (affine) inputs.insert(inputs.end(), {norm->weight, norm->bias});
  inputs.push_back(conv->weight);
  s.gradients = torch::autograd::grad({(s.out * weight).sum()}, inputs, {}, false, false, true);
  s.mean = norm->running_mean;
  s.variance = norm->running_var;
  s.batches = norm->num_batches_tracked;
  return s;
}

template <class Of>
void expect_same(const Of& of) {
  for (const bool affine : {true, false}) {
    const Seen lean = seen(of, affine, true), plain = seen(of, affine, false);
    EXPECT_TRUE(lean.out.equal(plain.out));
    EXPECT_TRUE(lean.mean.equal(plain.mean) && lean.variance.equal(plain.variance));
    EXPECT_TRUE(lean.batches.equal(plain.batches));
    for (std::size_t i = 0; i < lean.gradients.size(); ++i) {
      ASSERT_EQ(lean.gradients[i].defined(), plain.gradients[i].defined());
      if (lean.gradients[i].defined())
        EXPECT_TRUE(lean.gradients[i].allclose(plain.gradients[i], 1e-10, 1e-12)) << i;
    }
  }
}

TEST(LeanLayers, ConvolutionOfReluAndNorm) {
  expect_same([](const at::Tensor& x, BatchNorm2d& norm, torch::nn::Conv2d& conv, bool lean) {
    return lean ? conv_of_relu_norm(x, norm, conv) : conv->forward(torch::relu(norm->forward(x)));
  });
}

TEST(LeanLayers, PooledNorm) {
  expect_same([](const at::Tensor& x, BatchNorm2d& norm, torch::nn::Conv2d&, bool lean) {
    return lean ? relu_of_pooled_norm(x, norm)
                : torch::max_pool2d(torch::relu(norm->forward(x)), 3, 2, 1);
  });
}

TEST(LeanLayers, EvaluationIsPlain) {
  BatchNorm2d norm(torch::nn::BatchNorm2dOptions(6));
  torch::nn::Conv2d conv(torch::nn::Conv2dOptions(6, 5, 1).bias(false));
  norm->eval();
  const auto x = torch::randn({4, 6, 9, 11}).requires_grad_();
  EXPECT_TRUE(conv_of_relu_norm(x, norm, conv).equal(conv->forward(torch::relu(norm->forward(x)))));
  EXPECT_EQ(norm->num_batches_tracked.item<std::int64_t>(), 0);
}

}  // namespace
}  // namespace ood
