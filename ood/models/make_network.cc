#include "ood/errors.h"
#include "ood/models/networks.h"

namespace ood {
namespace {

struct Known {
  const char* name;
  std::shared_ptr<Classifier> (*make)(const NetworkShape&);
};
constexpr Known kNetworks[] = {{"small-cnn", make_small_cnn},
                               {"mlp", make_mlp},
                               {"linear", make_linear},
                               {"resnet-18", make_resnet18},
                               {"wrn-40-2", make_wide_resnet}};

}  // namespace

std::shared_ptr<Classifier> make_network(const std::string& name, const NetworkShape& shape) {
  std::string known;
  for (const Known& k : kNetworks) {
    if (name == k.name) return k.make(shape);
    known += (known.empty() ? "" : ", ") + std::string(k.name);
  }
  throw UsageError("`model`: expected " + known + ", got " + name);
}

}  // namespace ood
