#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/ArrayRef.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ood/registry/reduction.h"

/// What an objective that is more than a formula of logits consists of: tensors that it keeps, and
/// pure functions of its inputs and these. docs/adding-an-objective.md walks through one.
namespace ood {

using Tensors = c10::ArrayRef<at::Tensor>;
using Numbers = c10::ArrayRef<double>;  ///< parameters in the order of their table

/// What a network says of a batch.
struct NetworkOutput {
  at::Tensor logits;    ///< [B, C], or more outputs where the objective wants them
  at::Tensor features;  ///< [B, D], the input of the last layer; may be undefined
};

/// An input of an objective and what it is in a training.
struct Input {
  enum Source {
    kLogits,    ///< logits of the classes [N, C]
    kOutputs,   ///< all outputs of the network [N, O]
    kFurther,   ///< the last of the outputs beside the logits [N]
    kFeatures,  ///< the features before the last layer [N, D]
  };
  std::string_view name;
  Source source;
};

/// A tensor that an objective keeps. "phi.weight" belongs to a module phi.
struct State {
  enum Role {
    kBuffer,
    kParameter,  ///< trained with the network
    kExact,      ///< a buffer that keeps type and content when the module is converted
  };
  std::string_view name;
  Role role = kBuffer;
  bool in_loss = true;          ///< whether the loss reads it
  bool training_only = false;   ///< not part of a module of its own; these come last
  bool on_host = false;         ///< exact; modules of C++ keep it on the CPU, which decides by it
  std::string_view fixed_by{};  ///< a parameter is a buffer where the flag of this name is set
  std::string_view python_holder{};  ///< Python's module of it is in a module of this name
};

/// What an objective's state is shaped by.
struct Sizes {
  std::int64_t classes = 0;
  std::int64_t dimension = 0;  ///< of the embedding or the features
};

/// When state is updated, without gradient.
struct Event {
  enum Kind {
    kBegin,   ///< before the first step; has a pass
    kStep,    ///< with a step, as a rule after it; the inputs are those of the step
    kEpoch,   ///< at the end of each epoch; has a pass
    kFinish,  ///< after the last step; has a pass
  };
  Kind kind = kStep;
  double epoch = 0;   ///< epochs that are done, also in fractions
  double before = 0;  ///< the same before the step
  double epochs = 1;  ///< of the whole training
  /// The step's target as the CPU has it, so that nobody waits for another device; may be undefined.
  at::Tensor host_target{};
  /// Visits the inputs and the target of all ID training data, batch by batch.
  std::function<void(const std::function<void(Tensors)>&)> pass{};
  /// Takes a line for the user; may be empty.
  std::function<void(const std::string&)> note{};
};

/// A part of a loss: values of rows with the mask of those that count, or one number of the batch.
struct Term {
  std::size_t index;  ///< of the objective's terms; several may add up to one
  at::Tensor values;  ///< [N], or a scalar
  at::Tensor taken;   ///< bool [N]; undefined for a number of the batch
};

/// Loss and gradients computed together on the CPU: the terms, which sum to the loss, and the
/// contiguous gradient of every input that is wanted.
struct Parts {
  std::vector<double> terms;
  std::vector<at::Tensor> gradients;  ///< as many as inputs; undefined where not wanted
};

/// What an objective makes of the output of a trained network; undefined where it says nothing.
struct Readout {
  at::Tensor evidence;  ///< [N, K], the larger the likelier the class; logits where not given
  at::Tensor logits;    ///< of classes [N, K], for the general scores
  at::Tensor score;     ///< the objective's own [N], higher for OOD
};

/// An objective with its type erased. Null: it has none, or the default.
struct SliceEntry {
  std::vector<Input> inputs;  ///< in the order of a call; the target follows
  std::string_view target = "target";
  std::vector<State> state;
  bool by_class = false, by_dimension = false;  ///< the sizes it is made for
  bool outliers_through_head = false;           ///< draw() gives features for the last layer
  bool updates_each_step = false;               ///< update() wants Event::kStep
  bool updates_first = false;                   ///< that before the loss, not after the step

  /// The tensors of `state` at the start, from torch's generator.
  std::vector<at::Tensor> (*start)(Numbers, const Sizes&) = nullptr;
  /// What a training step draws at random, of inputs, target and all state: features of outliers
  /// that are put through the last layer, or a further input of the loss. Undefined: nothing.
  at::Tensor (*draw)(Numbers, Tensors, const Event&) = nullptr;
  /// Turns inputs, target, the state of the loss and what was drawn into what the loss is computed
  /// of, by differentiable operations: for a formula rows, target and, where it reads them, extras.
  std::vector<at::Tensor> (*prepare)(Numbers, Tensors) = nullptr;
  /// The terms of a loss that is no formula, by ordinary tensor operations: any device, any order
  /// of derivative.
  std::vector<Term> (*composite)(Numbers, Tensors) = nullptr;
  /// The same on the CPU for tensors of one type, float32 or float64, and the gradients whose bits
  /// in `wanted` are set; `sum` instead of means.
  Parts (*parts)(Numbers, Tensors, bool sum, std::int64_t wanted) = nullptr;
  /// Changes state after an event, of inputs and target of a step, and all state.
  void (*update)(Numbers, Tensors inputs, Tensors state, const Event&) = nullptr;
  /// Changes what the logits alone say, see read_out.
  void (*readout)(Numbers, const NetworkOutput&, Tensors state, Readout&) = nullptr;
  /// Distances [N, K] or [N] of embeddings to what it keeps.
  at::Tensor (*distances)(Numbers, const at::Tensor& embedding, Tensors state) = nullptr;
  /// What of a first batch will not work as meant, a line each.
  std::vector<std::string> (*check)(Numbers, Tensors) = nullptr;
  /// The target of a training that has classes, where the loss wants other labels.
  at::Tensor (*training_target)(Numbers, const at::Tensor&) = nullptr;
};

}  // namespace ood
