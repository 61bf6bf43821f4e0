#pragma once

namespace ood::app {

/// Sets how the program keeps what it frees; before anything large is allocated.
void hold_memory();

}  // namespace ood::app
