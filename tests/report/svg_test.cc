#include "ood/report/svg.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace ood::report {
namespace {

// What stands at the ticks of the horizontal axis, of numbers alone.
std::vector<std::string> ticks_of(double low, double high) {
  const LineChart chart{"t", {"x", low, high}, {"y", 0, 1}, {{"#000", {{low, 0}, {high, 1}}}}};
  const auto text = svg(chart);
  std::vector<std::string> all;
  const std::string mark = "text-anchor=\"middle\">";
  for (auto at = text.find(mark); at != std::string::npos; at = text.find(mark, at + 1)) {
    const auto begin = at + mark.size();
    const auto label = text.substr(begin, text.find('<', begin) - begin);
    if (label.find_first_not_of("-.0123456789") == std::string::npos) all.push_back(label);
  }
  return all;
}

TEST(Svg, ticks_of_a_range_of_few_roundings_end) {
  for (double high = -1; const int ulps : {1, 2, 3, 10}) {
    for (int i = 0; i < ulps; ++i) high = std::nextafter(high, 0.0);
    EXPECT_LE(ticks_of(-1, high).size(), 12u) << ulps;
  }
}

TEST(Svg, ticks_are_told_apart) {
  for (const auto& [low, high] :
       {std::pair{0.0, 1.0}, {-1.0, -0.9999}, {0.0, 3e-5}, {17.0, 90.0}}) {
    const auto labels = ticks_of(low, high);
    EXPECT_GE(labels.size(), 3u);
    EXPECT_EQ(std::set<std::string>(labels.begin(), labels.end()).size(), labels.size()) << low;
  }
  EXPECT_EQ(ticks_of(0, 1), (std::vector<std::string>{"0", "0.2", "0.4", "0.6", "0.8", "1"}));
}

}  // namespace
}  // namespace ood::report
