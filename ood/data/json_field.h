#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>

#include "ood/data/files.h"

namespace ood {

/// Takes a field of an object, of a whole number by whole_number(). An exception of json, or DataError
/// that begins with `what`.
template <class T>
void read_field(const nlohmann::ordered_json& object, const char* key, T& value,
                const std::string& what = "") {
  if constexpr (std::is_same_v<T, std::int64_t>)
    value = whole_number(object.at(key), what + key);
  else
    object.at(key).get_to(value);
}

}  // namespace ood
