#include "ood/errors.h"
#include "ood/models/networks.h"

namespace ood {
namespace {

struct Known {
  const char* name;
  std::shared_ptr<Classifier> (*make)(const NetworkShape&);
  bool takes_all = false;
};
constexpr Known kNetworks[] = {{"small-cnn", make_small_cnn}, {"mlp", make_mlp, true},
                               {"linear", make_linear, true}, {"resnet-18", make_resnet18},
                               {"resnet-34", make_resnet34},  {"resnet-50", make_resnet50},
                               {"wrn-40-2", make_wide_resnet}};

const Known& find(const std::string& name) {
  for (const Known& k : kNetworks)
    if (name == k.name) return k;
  throw UsageError("`model`: expected " + network_names() + ", got " + name);
}

}  // namespace

std::string network_names() {
  std::string names;
  for (const Known& k : kNetworks) names += (names.empty() ? "" : ", ") + std::string(k.name);
  return names;
}

std::shared_ptr<Classifier> make_network(const std::string& name, const NetworkShape& shape) {
  return find(name).make(shape);
}

void check_network(const std::string& name) { find(name); }

bool takes_all_inputs(const std::string& name) { return find(name).takes_all; }

}  // namespace ood
