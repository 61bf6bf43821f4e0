#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ood {

/// The candidate nearest to `name` by edit distance; empty if none is near.
std::string_view nearest(std::string_view name, const std::vector<std::string_view>& candidates);
/// "; did you mean CANDIDATE?", where one is near, else what is given.
std::string did_you_mean(std::string_view name, const std::vector<std::string_view>& candidates,
                         const std::string& otherwise = "");

/// With small ASCII letters.
std::string lower(std::string text);

/// With three digits, for messages, or with more.
std::string short_number(double value, int digits = 3);

/// The first line in which two texts differ, of each; "nothing" where it has ended.
std::pair<std::string, std::string> first_difference(const std::string& a, const std::string& b);

}  // namespace ood
