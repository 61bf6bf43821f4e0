#pragma once

namespace ood {
inline constexpr const char* kVersion = "0.1.0";
}
