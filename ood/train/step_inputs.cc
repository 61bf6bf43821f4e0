#include "ood/train/step_inputs.h"

#include "ood/augment/mixing.h"
#include "ood/data/numbers.h"
#include "ood/errors.h"
#include "ood/torch.h"

namespace ood {
namespace {

NamedLosses between(const NamedLosses& a, const NamedLosses& b, double lambda) {
  NamedLosses out;
  out.total = lambda * a.total + (1 - lambda) * b.total;
  for (std::size_t t = 0; t < a.terms.size(); ++t)
    out.terms.emplace_back(a.terms[t].first,
                           lambda * a.terms[t].second + (1 - lambda) * b.terms[t].second);
  return out;
}

}  // namespace

StepInputs::StepInputs(const RunOptions& options, const Task& task, std::int64_t outliers_per_step,
                       const Ranks& ranks)
    : options_(options),
      outliers_(outliers_per_step),
      augmentation_(parse_augmentation(options.augment)),
      batches_(task, options.batch_size, outliers_per_step,
               static_cast<std::uint64_t>(options.seed), augmentation_, options.decoders,
               options.class_balance),
      split_(batches_.id_per_step(), outliers_per_step, ranks),
      all_rows_(range(0, batches_.id_per_step() + outliers_per_step)) {
  if (augmentation_.any() && task.embeddings)
    throw UsageError("`augment`: expected pictures, got embeddings");
  const auto channels = task.train.inputs.channels();
  if ((augmentation_.colour || augmentation_.randaugment) && channels != 1 && channels != 3)
    throw UsageError("`augment`: colour and randaugment expect pictures of 1 or 3 channels, got " +
                     std::to_string(channels));
  // A batch normalisation of one row has no variance.
  const std::int64_t least = ranks.alone() || options.sync_batchnorm ? 1 : 2;
  if (batches_.id_per_step() < least * ranks.size())
    throw UsageError("`batch-size`: expected at least " + std::to_string(least * ranks.size()) +
                     " ID samples for " + std::to_string(ranks.size()) + " ranks, got " +
                     std::to_string(batches_.id_per_step()) +
                     (least == 1 ? "" : "; with `sync-batchnorm` one for each will do"));
}

StepInputs::Step StepInputs::at_step(std::int64_t step) {
  const bool mixes = options_.mixup > 0 || options_.cutmix > 0;
  // Partners may be rows of other ranks.
  const auto batch = batches_.at_step(step, mixes ? all_rows_ : split_.own());
  Step s{.inputs = batch.inputs, .target = batch.target, .host_target = batch.target};
  if (!mixes) return s;
  // ID samples are mixed among themselves; outliers stay outliers.
  RandomStream random(
      static_cast<std::uint64_t>(options_.seed),
      (static_cast<std::uint64_t>(Purpose::kMixing) << 48) + static_cast<std::uint64_t>(step));
  const std::int64_t id = s.target.size(0) - outliers_;
  const auto x = s.inputs.slice(0, 0, id), y = s.target.slice(0, 0, id);
  const Mixed mixed = options_.mixup > 0 ? mixup_data(x, y, options_.mixup, random)
                                         : cutmix(x, y, options_.cutmix, 1, random);
  s.inputs = torch::cat({mixed.inputs, s.inputs.slice(0, id)});
  if (split_.own().size() < all_rows_.size())
    s.inputs = s.inputs.index_select(0, torch::tensor(split_.own(), torch::kLong));
  s.inputs = s.inputs.contiguous(at::MemoryFormat::ChannelsLast);
  s.other_target = torch::cat({mixed.target_b, s.target.slice(0, id)});
  s.lambda = mixed.lambda;
  return s;
}

StepInputs::Step StepInputs::at_step(std::int64_t step, c10::Device device, at::ScalarType type) {
  Step s = at_step(step);
  // CUDA copies without a wait only from pinned memory.
  const auto there = [&](const at::Tensor& t) {
    return (device.is_cuda() ? t.pin_memory() : t).to(device, /*non_blocking=*/true);
  };
  s.inputs = there(s.inputs).to(type);
  s.target = there(s.target);
  if (s.other_target) s.other_target = there(*s.other_target);
  return s;
}

NetworkOutput StepInputs::gathered(const NetworkOutput& own, bool features) const {
  if (!features) return {split_.gathered(own.logits)[0], own.features};
  const auto all = split_.gathered(own.logits, own.features);
  return {all[0], all[1]};
}

NamedLosses StepInputs::losses(Objective& objective, const NetworkOutput& output,
                               const Step& step) {
  at::Tensor drawn;
  if (objective.is_training()) {
    objective.before_loss(output, step.target, step.host_target);
    drawn = objective.draw(output, step.target, step.host_target);
  }
  const auto losses = objective.forward(output, step.target, drawn);
  if (!step.other_target) return losses;
  return between(losses, objective.forward(output, *step.other_target, drawn), step.lambda);
}

}  // namespace ood
