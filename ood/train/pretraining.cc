#include "ood/train/pretraining.h"

#include "ood/data/random.h"
#include "ood/distributed/gradient_average.h"
#include "ood/errors.h"
#include "ood/models/picture_reconstruction.h"
#include "ood/registry/listener.h"
#include "ood/registry/text.h"
#include "ood/train/optimizer.h"
#include "ood/train/schedule.h"
#include "ood/train/step_inputs.h"

namespace ood {
namespace {

// The authors' decay. Adam's usual rate: theirs is a tenth of it, for 150 to 350 epochs.
RunOptions recipe(const RunOptions& options) {
  RunOptions o = options;
  o.optimizer = "adamw";
  o.lr = o.backbone_lr = 1e-3;
  o.weight_decay = 1e-6;
  return o;
}

void seed(const RunOptions& o, std::uint64_t what, std::int64_t step) {
  torch::manual_seed(random_bits(static_cast<std::uint64_t>(o.seed), Purpose::kWeights, what,
                                 static_cast<std::uint64_t>(step)));
}

// The mean over steps and ranks, the same on all of them.
double mean_of(const std::vector<at::Tensor>& losses, const Ranks& ranks) {
  const auto sum = torch::stack(losses).mean().to(torch::kDouble).cpu().contiguous();
  ranks.start_sum(sum)();
  return sum.item<double>() / static_cast<double>(ranks.size());
}

}  // namespace

bool pretrain(const Model& model, const std::function<NetworkOutput(const at::Tensor&)>& forward,
              const RunOptions& options, const Task& task, c10::Device device, at::ScalarType type,
              const Ranks& ranks, const InterruptGuard& interrupt) {
  const RunOptions o = recipe(options);
  const bool embedding = get_objective(o.objective).embedding > 0;
  const auto encoding = [&](const at::Tensor& x) {
    auto out = forward(x);
    return embedding ? out.logits : out.features;
  };
  StepInputs inputs(o, task, 0, ranks);
  const auto total = inputs.steps_per_epoch() * o.pretrain;
  const auto first = inputs.at_step(0, device, type).inputs;

  seed(o, 2, 0);
  model.network->eval();
  const auto example = encoding(first.slice(0, 0, 1));
  if (!example.requires_grad())
    throw UsageError("`pretrain`: expected a network whose features are learned, got " + o.model);
  const auto decoder = std::make_shared<PictureReconstruction>(example.size(1), first.size(1),
                                                               first.size(2), first.size(3));
  decoder->to(device, type);
  if (o.sync_batchnorm) spread_batch_norms(*decoder, ranks);
  model.network->train();

  auto parameters = trainable(model);
  for (const auto& p : decoder->parameters()) parameters.push_back(p);
  Optimizer optimizer(o, parameters, 0);
  GradientAverage gradients(ranks, parameters);
  // Several ranks, or a device, would wait for each number.
  const std::size_t most_unread = ranks.alone() && device.is_cpu() ? 1 : 100;
  std::vector<at::Tensor> unread;
  std::string note;
  for (std::int64_t i = 0; i < total; ++i) {
    seed(o, 3, i);
    const auto step = inputs.at_step(i, device, type);
    const auto& x = step.inputs;
    optimizer.zero_grad();
    gradients.begin(interrupt.interrupted());
    const auto loss = torch::mse_loss(decoder->forward(encoding(x)), decoder->target(x));
    // The ranks' mean is then that of all rows.
    const auto rows = static_cast<double>(x.size(0) * ranks.size());
    (loss * (rows / static_cast<double>(step.target.size(0)))).backward();
    const bool asked = gradients.finish();
    if (o.clip > 0) optimizer.clip(o.clip);
    optimizer.step(cosine_lr(o.lr, o.warmup, i, total));
    unread.push_back(loss.detach());
    if (i == 0 || unread.size() >= most_unread || i + 1 == total) {
      const double error = mean_of(unread, ranks);
      unread.clear();
      if (!std::isfinite(error))
        throw DivergedError(o.objective + ": the autoencoder's loss is " +
                            (std::isnan(error) ? "NaN" : "infinite") + " by step " +
                            std::to_string(i + 1) + " of " + std::to_string(total) +
                            "; expected a number; go without it by `pretrain` 0");
      note = "error " + short_number(error);
    }
    listener().progress(o.objective + ", autoencoder", i + 1, total, note);
    if ((ranks.alone() ? interrupt.interrupted() : asked) && i + 1 < total) return false;
  }
  return true;
}

}  // namespace ood
