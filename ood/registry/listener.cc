#include "ood/registry/listener.h"

namespace ood {
namespace {

Listener nobody;
Listener* current = &nobody;

}  // namespace

void set_listener(Listener* listener) { current = listener == nullptr ? &nobody : listener; }
Listener& listener() { return *current; }

}  // namespace ood
