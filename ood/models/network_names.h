#pragma once

#include <string>

namespace ood {

/// "small-cnn, mlp, ...", those that make_network knows.
std::string network_names();

}  // namespace ood
