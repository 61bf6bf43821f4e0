#include "ood/errors.h"
#include "ood/models/networks.h"

namespace ood {

std::shared_ptr<Classifier> make_network(const std::string& name, const NetworkShape& shape) {
  if (name == "small-cnn") return make_small_cnn(shape);
  if (name == "mlp") return make_mlp(shape);
  throw UsageError("--model: expected small-cnn or mlp, got " + name);
}

}  // namespace ood
