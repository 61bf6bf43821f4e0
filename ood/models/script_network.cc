#include "ood/models/script_network.h"

#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/script.h>

#include <map>
#include <sstream>

#include "ood/errors.h"
#include "ood/models/network_notes.h"
#include "ood/models/weight_layout.h"

namespace ood {
namespace {

constexpr const char* kNotes = "ood.json";

torch::jit::Module load_script(const std::string& content, torch::jit::ExtraFilesMap& more) {
  // A profile of the first calls costs more than it gains where shapes stay the same.
  torch::jit::getProfilingMode() = false;
  std::istringstream stream(content);
  try {
    return torch::jit::load(stream, torch::kCPU, more);
  } catch (const std::exception&) {
    throw UsageError(std::string("`model`: expected a TorchScript file") + kRemedy);
  }
}

// Operations whose training mode is a constant of the graph, as a trace has them.
struct FixedModes {
  std::string training, evaluating;  // the name of one; "": none
};

void find_fixed_modes(torch::jit::Block* block, FixedModes& found) {
  for (auto* node : block->nodes()) {
    for (auto* inner : node->blocks()) find_fixed_modes(inner, found);
    const auto* schema = node->maybeSchema();
    for (std::size_t i = 0; schema != nullptr && i < schema->arguments().size(); ++i) {
      const auto& argument = schema->arguments()[i].name();
      if (argument != "training" && argument != "train") continue;
      const auto value = torch::jit::toIValue(node->input(i));
      if (!value || !value->isBool()) continue;
      // Attention always drops out, in evaluation by a share of 0.
      const bool by_share =
          schema->name() == "aten::dropout" && !torch::jit::toIValue(node->input(1));
      if (value->toBool() && !by_share) found.training = node->kind().toUnqualString();
      if (!value->toBool()) found.evaluating = node->kind().toUnqualString();
    }
  }
}

// The interpreter's message has the operation's own at its end.
std::string last_error(const std::string& what) {
  std::string last;
  std::istringstream lines(what);
  for (std::string line; std::getline(lines, line);)
    if (const auto at = line.find("Error: "); at != std::string::npos && line.find(' ') > at)
      last = line.substr(at + 7);
  return last.empty() ? first_line(what) : last;
}

class ScriptNetwork : public Classifier {
 public:
  ScriptNetwork(const std::string& content, const NetworkShape& shape, bool trains) {
    torch::jit::ExtraFilesMap more{{kNotes, ""}};
    script_ = load_script(content, more);
    method_ = parse_notes(more[kNotes]).method;
    if (method_.empty()) method_ = script_.find_method("features") ? "features" : "forward";
    if (!script_.find_method(method_))
      throw UsageError("`model`: the file has no method " + method_ + kRemedy);
    check_modes(trains);
    register_tensors();
    train(false);
    make_head(width(shape), shape);
    train(true);
  }

  void train(bool on = true) override {
    Classifier::train(on);
    script_.train(on && !frozen());
  }

 private:
  at::Tensor embed(const at::Tensor& inputs) override {
    torch::jit::IValue features;
    try {
      features = script_.get_method(method_)({inputs.contiguous(layout_)});
    } catch (const std::exception& e) {
      const std::string what = last_error(e.what());
      if (is_out_of_memory(what)) throw std::bad_alloc();
      throw Error("`model`: the network fails: " + what);
    }
    // Logits of its own, which are not those of the task, and features.
    if (features.isTuple() && features.toTupleRef().elements().size() == 2)
      features = features.toTupleRef().elements()[1];
    if (!features.isTensor())
      throw Error("`model`: expected the network to give features, or logits and features, got " +
                  features.tagKind());
    return features.toTensor();
  }

  void check_modes(bool trains) const {
    const auto graph = script_.get_method(method_).graph()->copy();
    torch::jit::Inline(*graph);
    FixedModes fixed;
    find_fixed_modes(graph->block(), fixed);
    if (!fixed.training.empty())
      throw UsageError(
          "`model`: expected a network that can be switched to evaluation, got one whose " +
          fixed.training + " always trains (a trace made in training?)" + kRemedy);
    if (!trains) return;
    if (!fixed.evaluating.empty())
      throw UsageError(
          "`model`: expected a network that can be switched to training, got one whose " +
          fixed.evaluating +
          " always evaluates (a trace?); train the last layer only "
          "(`freeze`), or make the file of modules that switch");
    bool any = false;
    for (const auto& p : script_.parameters()) any = any || p.requires_grad();
    if (!any)
      throw UsageError(
          "`model`: the file has no parameters that can be trained; train the last "
          "layer only (`freeze`)");
  }

  // Channels-last is faster; some networks are written for the other layout alone.
  void set_layout(at::MemoryFormat layout) {
    const torch::NoGradGuard no_grad;
    layout_ = layout;
    for (auto& t : parameters())
      if (t.dim() == 4) set_weight_layout(t, layout);
  }

  std::int64_t width(const NetworkShape& shape) {
    const torch::NoGradGuard no_grad;
    const auto inputs = torch::zeros({kRowsTried, shape.channels, shape.height, shape.width});
    at::Tensor features;
    try {
      set_layout(at::MemoryFormat::ChannelsLast);
      features = embed(inputs);
    } catch (const Error&) {
      set_layout(at::MemoryFormat::Contiguous);
      try {
        features = embed(inputs);
      } catch (const Error& e) {
        throw UsageError(std::string(e.what()) + "; it was given pictures of " +
                         std::to_string(shape.channels) + "x" + std::to_string(shape.height) + "x" +
                         std::to_string(shape.width));
      }
    }
    check_features(features);
    return features.size(1);
  }

  // Every tensor of the script is one of this module's, by the same name.
  void register_tensors() {
    const auto add = [&](const std::string& name, at::Tensor t, bool parameter) {
      torch::nn::Module* module = this;
      std::istringstream parts("backbone." + name);
      std::string part, path;
      std::getline(parts, part, '.');
      for (std::string next; std::getline(parts, next, '.'); part = next) {
        path += part + ".";
        auto& child = folders_[path];
        if (!child) child = module->register_module(part, std::make_shared<Folder>());
        module = child.get();
      }
      if (parameter)
        module->register_parameter(part, t, t.requires_grad());
      else
        module->register_buffer(part, t);
    };
    for (const auto& p : script_.named_parameters()) add(p.name, p.value, true);
    for (const auto& b : script_.named_buffers()) add(b.name, b.value, false);
  }

  struct Folder : torch::nn::Module {};
  torch::jit::Module script_;
  std::string method_;
  at::MemoryFormat layout_ = at::MemoryFormat::Contiguous;
  std::map<std::string, std::shared_ptr<Folder>> folders_;
};

}  // namespace

NetworkNotes script_notes(const std::string& content) {
  torch::jit::ExtraFilesMap more{{kNotes, ""}};
  load_script(content, more);
  return parse_notes(more[kNotes]);
}

std::shared_ptr<Classifier> make_script_network(const std::string& content,
                                                const NetworkShape& shape, bool trains) {
  return std::make_shared<ScriptNetwork>(content, shape, trains);
}

}  // namespace ood
