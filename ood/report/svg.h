#pragma once

#include <string>
#include <utility>
#include <vector>

/// Small charts as inline SVG. Sizes are CSS pixels of a chart that is not scaled; the page scales
/// charts down to no less than 0.85.
namespace ood::report {

struct Series {
  std::string color;
  std::vector<std::pair<double, double>> points;
  bool filled = false;  ///< area down to the axis
  std::string dash{};   ///< lengths of dashes and gaps; "": a line
};

struct Axis {
  std::string label;
  double low = 0, high = 1;
};

/// A line chart. `diagonal` draws the line of chance.
struct LineChart {
  std::string title;
  Axis x, y;
  std::vector<Series> series;
  bool diagonal = false;
};
std::string svg(const LineChart& chart);

/// One row a value with its interval, on a common axis from 0 to 1 and a line at 0.5.
struct DotRow {
  std::string label;
  std::string color;
  double value, low, high;
};
std::string svg_dots(const std::string& title, const std::vector<DotRow>& rows);

/// A colour-blind safe colour for the i-th of several things, dark enough for lines on white.
std::string color(std::size_t i);
/// The dashes of its line, which tell apart things of one colour.
std::string dash(std::size_t i);

std::string escape(const std::string& text);

/// With so many digits after the point.
std::string fixed(double value, int digits);
/// The same without trailing zeros.
std::string number(double value, int digits);

}  // namespace ood::report
