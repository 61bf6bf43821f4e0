#include "ood/models/lean_layers.h"

#include <ATen/autocast_mode.h>

namespace ood {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

constexpr std::array<std::int64_t, 2> kWindow{3, 3}, kStep{2, 2}, kEdge{1, 1}, kOne{1, 1};

// Whether there is a backward pass to keep less for, over the rows of this process, where memory is
// slow; a GPU would pay a quarter of its step. Norms without weights are those of one-class
// objectives, whose networks are small.
bool is_lean(const at::Tensor& x, const BatchNorm2d& norm) {
  return torch::GradMode::is_enabled() && x.is_cpu() && x.requires_grad() && norm->is_training() &&
         norm->weight.defined() && !norm->is_spread() &&
         !at::autocast::is_autocast_enabled(x.device().type());
}

// Its output, the mean and 1 / sqrt(variance + eps).
auto normed(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
            BatchNorm2d& norm) {
  norm->num_batches_tracked += 1;
  return at::native_batch_norm(x, weight, bias, norm->running_mean, norm->running_var,
                               /*training=*/true, *norm->options.momentum(), norm->options.eps());
}

// The same once more: a x + b, a = weight inverse, b = bias - mean a.
at::Tensor normed_again(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        const at::Tensor& mean, const at::Tensor& inverse) {
  const auto a = weight * inverse;
  const auto b = bias - mean * a;
  return torch::addcmul(b.view({1, -1, 1, 1}), x, a.view({1, -1, 1, 1}));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> normed_backward(const at::Tensor& grad,
                                                               AutogradContext* ctx,
                                                               const at::Tensor& x) {
  const auto kept = ctx->get_saved_variables();
  return at::native_batch_norm_backward(grad, x, kept[1], {}, {}, kept[3], kept[4], /*train=*/true,
                                        ctx->saved_data["eps"].toDouble(), {true, true, true});
}

class ConvOfReluNorm : public Function<ConvOfReluNorm> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& bias, const at::Tensor& kernel, BatchNorm2d& norm,
                            torch::nn::Conv2d& conv) {
    auto [y, mean, inverse] = normed(x, weight, bias, norm);
    ctx->save_for_backward({x, weight, bias, mean, inverse, kernel});
    ctx->saved_data["eps"] = norm->options.eps();
    ctx->saved_data["stride"] = conv->options.stride()->at(0);
    ctx->saved_data["padding"] = kernel.size(2) / 2;
    return torch::conv2d(y.relu_(), kernel, {}, conv->options.stride(), kernel.size(2) / 2);
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& grads) {
    const auto kept = ctx->get_saved_variables();
    const at::Tensor &x = kept[0], &kernel = kept[5];
    const auto y = normed_again(x, kept[1], kept[2], kept[3], kept[4]).relu_();
    const auto stride = ctx->saved_data["stride"].toInt();
    const auto padding = ctx->saved_data["padding"].toInt();
    const auto [of_y, of_kernel, none] = at::convolution_backward(
        grads[0], y, kernel, c10::nullopt, {stride, stride}, {padding, padding}, kOne,
        /*transposed=*/false, {0, 0}, /*groups=*/1, {true, ctx->needs_input_grad(3), false});
    const auto [of_x, of_weight, of_bias] =
        normed_backward(at::threshold_backward(of_y, y, 0), ctx, x);
    return {of_x, of_weight, of_bias, of_kernel, {}, {}};
  }
};

class PooledNorm : public Function<PooledNorm> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& bias, BatchNorm2d& norm) {
    const auto [y, mean, inverse] = normed(x, weight, bias, norm);
    const auto [pooled, places] =
        at::max_pool2d_with_indices(y, kWindow, kStep, kEdge, kOne, /*ceil_mode=*/false);
    ctx->save_for_backward({x, weight, bias, mean, inverse, places.to(torch::kInt)});
    ctx->saved_data["eps"] = norm->options.eps();
    return pooled;
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& grads) {
    const auto kept = ctx->get_saved_variables();
    const at::Tensor& x = kept[0];
    // Of what was pooled it takes the shape alone.
    const auto of_y = at::max_pool2d_with_indices_backward(
        grads[0], x, kWindow, kStep, kEdge, kOne, /*ceil_mode=*/false, kept[5].to(torch::kLong));
    const auto [of_x, of_weight, of_bias] = normed_backward(of_y, ctx, x);
    return {of_x, of_weight, of_bias, {}};
  }
};

}  // namespace

at::Tensor conv_of_relu_norm(const at::Tensor& x, BatchNorm2d& norm, torch::nn::Conv2d& conv) {
  if (!is_lean(x, norm)) return conv->forward(torch::relu(norm->forward(x)));
  return ConvOfReluNorm::apply(x, norm->weight, norm->bias, conv->weight, norm, conv);
}

at::Tensor relu_of_pooled_norm(const at::Tensor& x, BatchNorm2d& norm) {
  if (!is_lean(x, norm))
    return torch::relu(torch::max_pool2d(norm->forward(x), kWindow, kStep, kEdge));
  return torch::relu(PooledNorm::apply(x, norm->weight, norm->bias, norm));
}

}  // namespace ood
