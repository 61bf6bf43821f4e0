#include "ood/registry/text.h"

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <sstream>

namespace ood {
namespace {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t above = row[j + 1];
      row[j + 1] = std::min({above + 1, row[j] + 1, diagonal + (a[i] != b[j])});
      diagonal = above;
    }
  }
  return row.back();
}

}  // namespace

std::string_view nearest(std::string_view name, const std::vector<std::string_view>& candidates) {
  std::string_view best;
  std::size_t least = std::max<std::size_t>(2, name.size() / 3) + 1;
  for (const auto c : candidates)
    if (const std::size_t d = edit_distance(name, c); d < least) {
      least = d;
      best = c;
    }
  return best;
}

std::string did_you_mean(std::string_view name, const std::vector<std::string_view>& candidates,
                         const std::string& otherwise) {
  const auto near = nearest(name, candidates);
  return near.empty() ? otherwise : "; did you mean " + std::string(near) + "?";
}

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

std::string short_number(double value, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*g", digits, value);
  return text;
}

std::pair<std::string, std::string> first_difference(const std::string& a, const std::string& b) {
  std::istringstream of_a(a), of_b(b);
  for (std::string x, y;;) {
    const bool more_a = static_cast<bool>(std::getline(of_a, x)),
               more_b = static_cast<bool>(std::getline(of_b, y));
    if (!more_a && !more_b) return {"nothing", "nothing"};
    if (x != y || more_a != more_b) return {more_a ? x : "nothing", more_b ? y : "nothing"};
  }
}

}  // namespace ood
