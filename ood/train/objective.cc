#include "ood/train/objective.h"

#include <algorithm>

#include "ood/ops/readout.h"
#include "ood/ops/row_terms.h"
#include "ood/registry/listener.h"

namespace ood {

Objective::Objective(const ObjectiveEntry& entry, std::vector<double> parameters,
                     const ObjectiveContext& context)
    : entry_(entry),
      parameters_(std::move(parameters)),
      context_(context),
      kept_(entry, /*training=*/true) {
  check_parameters(entry_.name, entry_.parameters, parameters_);
  const bool of_features =
      !entry_.slice.inputs.empty() && entry_.slice.inputs.back().source == Input::kFeatures;
  kept_.start(*this, parameters_,
              {context_.classes, of_features            ? context_.features
                                 : entry_.embedding > 0 ? entry_.embedding_width(context_.classes)
                                                        : context_.classes});
}

Event Objective::event(Event::Kind kind) const {
  Event e;
  e.kind = kind;
  e.epoch = e.before = epoch_;
  e.epochs = static_cast<double>(context_.epochs);
  e.note = [this](const std::string& line) {
    if (!warned_) listener().warn(line);
    warned_ = true;
  };
  return e;
}

at::Tensor Objective::draw(const NetworkOutput& output, const at::Tensor& target,
                           const at::Tensor& host_target) const {
  if (entry_.slice.draw == nullptr) return {};
  auto in = training_inputs(entry_, parameters_, output, target);
  in.insert(in.end(), kept_.all().begin(), kept_.all().end());
  auto e = event(Event::kStep);
  e.host_target = host_target;
  const auto drawn = objective_draw(entry_, parameters_, in, e);
  return drawn.defined() && entry_.slice.outliers_through_head ? context_.head(drawn) : drawn;
}

NamedLosses Objective::forward(const NetworkOutput& output, const at::Tensor& target,
                               const at::Tensor& drawn) const {
  auto in = training_inputs(entry_, parameters_, output, target);
  const auto state = kept_.of_loss(/*copied=*/false);
  in.insert(in.end(), state.begin(), state.end());
  if (drawn.defined()) in.push_back(drawn);
  const auto own = objective_loss(entry_, parameters_, in);
  const auto weight_of = [&](std::string_view parameter, double otherwise) {
    return parameter.empty()  ? otherwise
           : parameter == "1" ? 1
                              : entry_.value(parameters_, parameter);
  };
  const double weight = weight_of(entry_.own_weight, 1);
  NamedLosses losses{weight == 1 ? own.loss : weight * own.loss, {}};
  for (std::size_t t = 0; t < entry_.terms.size(); ++t)
    losses.terms.emplace_back(entry_.terms[t], weight * own.terms[static_cast<std::int64_t>(t)]);
  if (const double share = weight_of(entry_.cross_entropy_weight, 0); share > 0) {
    const auto ce = share * cross_entropy(output.logits, target);
    losses.total = losses.total + ce;
    losses.terms.emplace_back("cross_entropy", ce.detach());
  }
  return losses;
}

void Objective::after_step(const NetworkOutput& output, const at::Tensor& target, double epoch) {
  auto e = event(Event::kStep);
  epoch_ = e.epoch = epoch;
  if (!entry_.slice.updates_first) update_by(output, target, e);
}

void Objective::before_loss(const NetworkOutput& output, const at::Tensor& target,
                            const at::Tensor& host_target) {
  if (!entry_.slice.updates_first) return;
  auto e = event(Event::kStep);
  e.host_target = host_target;
  update_by(output, target, e);
}

void Objective::update_by(const NetworkOutput& output, const at::Tensor& target, const Event& e) {
  if (!entry_.slice.updates_each_step) return;
  const NetworkOutput seen{output.logits.detach(), output.features.detach()};
  objective_update(entry_, parameters_, training_inputs(entry_, parameters_, seen, target),
                   kept_.all(), e);
}

void Objective::at_event(Event::Kind kind, const TrainingPass& pass) {
  auto e = event(kind);
  e.pass = [&](const auto& visit) {
    pass([&](const NetworkOutput& output, const at::Tensor& target) {
      visit(training_inputs(entry_, parameters_, output, target));
    });
  };
  objective_update(entry_, parameters_, {}, kept_.all(), e);
}

std::vector<std::string> Objective::check(const NetworkOutput& output,
                                          const at::Tensor& target) const {
  if (entry_.slice.check == nullptr) return {};
  const torch::NoGradGuard no_grad;
  return entry_.slice.check(parameters_, training_inputs(entry_, parameters_, output, target));
}

bool Objective::uses_features() const {
  const auto& slice = entry_.slice;
  return slice.outliers_through_head ||
         std::any_of(slice.inputs.begin(), slice.inputs.end(),
                     [](const auto& in) { return in.source == Input::kFeatures; });
}

Readout Objective::readout(const NetworkOutput& output) const {
  const torch::NoGradGuard no_grad;
  const auto here = output.logits.device();
  const auto there = home_ ? *home_ : here;
  if (here == there) return read_out(entry_, parameters_, output, kept_.all());
  Readout r = read_out(entry_, parameters_, {output.logits.to(there), output.features.to(there)},
                       kept_.all());
  for (at::Tensor* t : {&r.evidence, &r.logits, &r.score})
    if (t->defined()) *t = t->to(here);
  return r;
}

}  // namespace ood
