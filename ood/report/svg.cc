#include "ood/report/svg.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <sstream>

namespace ood::report {
namespace {

constexpr const char* kColors[] = {"#0060a8", "#c2410c", "#00735c", "#a03070", "#7a5c00",
                                   "#3b3b9e", "#4d4d4d", "#8b1a1a", "#2f6f8f", "#5a7d00"};

constexpr double kWidth = 340, kHeight = 230;
constexpr int kMostTicks = 12;
constexpr double kLeft = 58, kRight = 12, kTop = 28, kBottom = 40;

// Round steps of about the range divided by five.
std::vector<double> ticks(double low, double high) {
  const double raw = (high - low) / 5;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  const double step = power * (raw <= power ? 1 : raw <= 2 * power ? 2 : raw <= 5 * power ? 5 : 10);
  std::vector<double> at;
  // Not a sum of steps, which stands still where the range is a few roundings of its ends.
  const double first = std::ceil(low / step);
  for (int i = 0; i < kMostTicks; ++i) {
    const double t = (first + i) * step;
    if (!(t <= high + step * 1e-9)) break;
    if (at.empty() || t > at.back()) at.push_back(std::abs(t) < step * 1e-9 ? 0 : t);
  }
  return at;
}

// Behind the point, that tell ticks apart.
int digits_of(const std::vector<double>& at) {
  constexpr int kLeast = 3, kMost = 17;
  if (at.size() < 2) return kLeast;
  return std::clamp(static_cast<int>(std::ceil(-std::log10(at[1] - at[0]) - 1e-9)), kLeast, kMost);
}

std::string coordinate(double v) { return number(v, 1); }

void text(std::ostream& out, double x, double y, const std::string& anchor,
          const std::string& content, const char* cls = "") {
  out << "<text x=\"" << coordinate(x) << "\" y=\"" << coordinate(y) << "\" text-anchor=\""
      << anchor << "\"" << (*cls ? std::string(" class=\"") + cls + "\"" : "") << ">"
      << escape(content) << "</text>";
}

void line(std::ostream& out, double x1, double y1, double x2, double y2, const char* cls) {
  out << "<line x1=\"" << coordinate(x1) << "\" y1=\"" << coordinate(y1) << "\" x2=\""
      << coordinate(x2) << "\" y2=\"" << coordinate(y2) << "\" class=\"" << cls << "\"/>";
}

}  // namespace

std::string escape(const std::string& text) {
  std::string out;
  for (const char c : text)
    out += c == '&'   ? "&amp;"
           : c == '<' ? "&lt;"
           : c == '>' ? "&gt;"
           : c == '"' ? "&quot;"
                      : std::string(1, c);
  return out;
}

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string number(double value, int digits) {
  std::string s = fixed(value, digits);
  if (s.find('.') != std::string::npos) {
    s.erase(s.find_last_not_of('0') + 1);
    if (s.back() == '.') s.pop_back();
  }
  return s == "-0" ? "0" : s;
}

std::string color(std::size_t i) { return kColors[i % std::size(kColors)]; }

std::string dash(std::size_t i) {
  static const char* const kDashes[] = {"", "6 3", "2 2"};
  return kDashes[i / std::size(kColors) % std::size(kDashes)];
}

std::string svg(const LineChart& c) {
  const double w = kWidth - kLeft - kRight, h = kHeight - kTop - kBottom;
  const auto px = [&](double x) { return kLeft + (x - c.x.low) / (c.x.high - c.x.low) * w; };
  const auto py = [&](double y) { return kTop + h - (y - c.y.low) / (c.y.high - c.y.low) * h; };
  std::ostringstream out;
  out << "<svg viewBox=\"0 0 " << kWidth << " " << kHeight << "\" role=\"img\" aria-label=\""
      << escape(c.title) << "\">";
  text(out, kLeft, 16, "start", c.title, "title");
  const auto rows = ticks(c.y.low, c.y.high), columns = ticks(c.x.low, c.x.high);
  for (const double t : rows) {
    line(out, kLeft, py(t), kLeft + w, py(t), "grid");
    text(out, kLeft - 5, py(t) + 4, "end", number(t, digits_of(rows)));
  }
  for (const double t : columns) {
    line(out, px(t), kTop + h, px(t), kTop + h + 4, "axis");
    text(out, std::min(px(t), kWidth - 14), kTop + h + 16, "middle", number(t, digits_of(columns)));
  }
  line(out, kLeft, kTop + h, kLeft + w, kTop + h, "axis");
  text(out, kLeft + w / 2, kHeight - 6, "middle", c.x.label);
  out << "<g transform=\"rotate(-90)\">";
  text(out, -kTop - h / 2, 13, "middle", c.y.label);
  out << "</g>";
  if (c.diagonal) line(out, px(0), py(0), px(1), py(1), "chance");
  for (const Series& s : c.series) {
    if (s.points.empty()) continue;
    std::ostringstream path;
    const char* move = "M";
    for (const auto& [x, y] : s.points) {
      path << move << coordinate(px(std::clamp(x, c.x.low, c.x.high))) << " "
           << coordinate(py(std::clamp(y, c.y.low, c.y.high)));
      move = "L";
    }
    if (s.filled)
      out << "<path d=\"" << path.str() << "L" << coordinate(px(s.points.back().first)) << " "
          << coordinate(py(c.y.low)) << "L" << coordinate(px(s.points.front().first)) << " "
          << coordinate(py(c.y.low)) << "Z\" fill=\"" << s.color << "\" fill-opacity=\".25\"/>";
    out << "<path d=\"" << path.str() << "\" fill=\"none\" stroke=\"" << s.color
        << "\" stroke-width=\"1.8\" stroke-linejoin=\"round\""
        << (s.dash.empty() ? "" : " stroke-dasharray=\"" + s.dash + "\"") << "/>";
  }
  out << "</svg>";
  return out.str();
}

std::string svg_dots(const std::string& title, const std::vector<DotRow>& rows) {
  constexpr double kRow = 26, kCharacter = 6.3;
  std::size_t longest = 0;
  for (const DotRow& r : rows) longest = std::max(longest, r.label.size());
  const double names = std::max(140.0, kCharacter * static_cast<double>(longest) + 12);
  const double height = kTop + kRow * static_cast<double>(rows.size()) + 26;
  const double w = kWidth - names - 58;
  const auto px = [&](double v) { return names + v * w; };
  const double bottom = kTop + kRow * static_cast<double>(rows.size());
  std::ostringstream out;
  out << "<svg viewBox=\"0 0 " << kWidth << " " << height << "\" role=\"img\" aria-label=\""
      << escape(title) << "\">";
  text(out, 4, 16, "start", title, "title");
  for (const double t : {0.0, 0.5, 1.0}) {
    line(out, px(t), kTop, px(t), bottom, t == 0.5 ? "chance" : "grid");
    text(out, px(t), bottom + 15, "middle", number(t, 2));
  }
  double y = kTop + kRow / 2;
  for (const DotRow& r : rows) {
    text(out, names - 8, y + 4, "end", r.label);
    out << "<line x1=\"" << coordinate(px(r.low)) << "\" x2=\"" << coordinate(px(r.high))
        << "\" y1=\"" << coordinate(y) << "\" y2=\"" << coordinate(y) << "\" stroke=\"" << r.color
        << "\" stroke-width=\"4\" stroke-opacity=\".4\"/><circle cx=\"" << coordinate(px(r.value))
        << "\" cy=\"" << coordinate(y) << "\" r=\"5\" fill=\"" << r.color << "\"/>";
    text(out, px(1) + 12, y + 4, "start", fixed(r.value, 3));
    y += kRow;
  }
  out << "</svg>";
  return out.str();
}

}  // namespace ood::report
