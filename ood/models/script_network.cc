#include "ood/models/script_network.h"

#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/script.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "ood/data/files.h"
#include "ood/errors.h"

namespace ood {
namespace {

constexpr const char* kEnd = ".pt";
constexpr const char* kConstants = "ood.json";
constexpr const char* kRemedy = "; make it with: python -m ood.to_program";

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

torch::jit::Module load_script(const std::string& archive, torch::jit::ExtraFilesMap& more) {
  // A profile of the first calls costs more than it gains where shapes stay the same.
  torch::jit::getProfilingMode() = false;
  std::istringstream stream(archive);
  try {
    return torch::jit::load(stream, torch::kCPU, more);
  } catch (const std::exception&) {
    throw UsageError(std::string("`model`: expected a TorchScript file") + kRemedy);
  }
}

// An operation whose training mode is a constant of the graph, as a trace has them; "": none.
std::string fixed_mode(torch::jit::Block* block) {
  for (auto* node : block->nodes()) {
    for (auto* inner : node->blocks())
      if (const auto found = fixed_mode(inner); !found.empty()) return found;
    const auto* schema = node->maybeSchema();
    for (std::size_t i = 0; schema != nullptr && i < schema->arguments().size(); ++i) {
      const auto& argument = schema->arguments()[i].name();
      if (argument != "training" && argument != "train") continue;
      if (const auto value = torch::jit::toIValue(node->input(i)); value && value->isBool())
        return node->kind().toUnqualString();
    }
  }
  return "";
}

class ScriptNetwork : public Classifier {
 public:
  ScriptNetwork(const std::string& archive, const NetworkShape& shape, bool trains) {
    torch::jit::ExtraFilesMap none;
    script_ = load_script(archive, none);
    method_ = script_.find_method("features") ? "features" : "forward";
    if (trains) check_switchable();
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
    return script_.get_method(method_)({inputs}).toTensor();
  }

  void check_switchable() const {
    const auto graph = script_.get_method(method_).graph()->copy();
    torch::jit::Inline(*graph);
    if (const auto op = fixed_mode(graph->block()); !op.empty())
      throw UsageError("`model`: expected a network whose " + op +
                       " can be switched between training and evaluation, got one where it is "
                       "fixed (a trace?); script it (python -m ood.to_program), or train the last "
                       "layer only (`freeze`)");
  }

  std::int64_t width(const NetworkShape& shape) {
    const torch::NoGradGuard no_grad;
    const std::string form = std::to_string(shape.channels) + "x" + std::to_string(shape.height) +
                             "x" + std::to_string(shape.width);
    at::Tensor features;
    try {
      features = embed(torch::zeros({1, shape.channels, shape.height, shape.width}));
    } catch (const std::exception& e) {
      // The interpreter's message ends with what the operation says.
      std::string what = e.what(), last;
      std::istringstream lines(what);
      for (std::string line; std::getline(lines, line);)
        if (line.rfind("RuntimeError: ", 0) == 0) last = line.substr(14);
      throw UsageError("`model`: does not take pictures of " + form + ": " +
                       (last.empty() ? first_line(what) : last));
    }
    if (features.dim() != 2 || features.size(0) != 1 || features.scalar_type() != torch::kFloat)
      throw UsageError("`model`: expected features [N, D] of float32, got " +
                       c10::str(features.sizes()) + " for one picture" + kRemedy);
    return features.size(1);
  }

  // Every tensor of the script is one of this module's, by the same name.
  void register_tensors() {
    const auto add = [&](const std::string& name, at::Tensor t, bool parameter) {
      const torch::NoGradGuard no_grad;
      if (t.dim() == 4) t.set_data(t.contiguous(at::MemoryFormat::ChannelsLast));
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
  const char* method_;
  std::map<std::string, std::shared_ptr<Folder>> folders_;
};

}  // namespace

bool is_script_file(const std::string& model) { return model.ends_with(kEnd); }

std::string read_script_file(const std::string& path) {
  constexpr std::uint64_t kLargest = std::uint64_t{4} << 30;
  try {
    return read_text(path, kLargest);
  } catch (const DataError& e) {
    throw UsageError("`model`: " + std::string(e.what()));
  }
}

InputConstants constants_of(const std::string& archive) {
  torch::jit::ExtraFilesMap more{{kConstants, ""}};
  load_script(archive, more);
  if (more[kConstants].empty()) return {};
  try {
    const auto json = nlohmann::json::parse(more[kConstants]);
    return {json.at("mean").get<std::vector<double>>(),
            json.at("deviation").get<std::vector<double>>()};
  } catch (const nlohmann::json::exception&) {
    throw UsageError("`model`: what the file says of its inputs is damaged");
  }
}

std::shared_ptr<Classifier> make_script_network(const std::string& archive,
                                                const NetworkShape& shape, bool trains) {
  return std::make_shared<ScriptNetwork>(archive, shape, trains);
}

}  // namespace ood
