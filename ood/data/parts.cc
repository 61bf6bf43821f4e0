#include "ood/data/parts.h"

#include <array>
#include <cctype>
#include <utility>

#include "ood/registry/text.h"

namespace ood {

std::string_view part_named(const std::string& folder) {
  using Meaning = std::pair<std::string_view, std::string_view>;
  constexpr std::array<Meaning, 7> kMeanings{{{"train", "train"},
                                              {"training", "train"},
                                              {"val", "val"},
                                              {"valid", "val"},
                                              {"validation", "val"},
                                              {"test", "test"},
                                              {"testing", "test"}}};
  const auto name = lower(folder);
  for (const auto& [word, part] : kMeanings)
    if (name == word) return part;
  return "";
}

std::string_view part_of_file(const std::filesystem::path& file) {
  std::string word;
  for (const char c : file.stem().string() + "-") {
    if (std::isalpha(static_cast<unsigned char>(c)) != 0) {
      word += c;
      continue;
    }
    if (const auto part = part_named(word); !part.empty()) return part;
    word.clear();
  }
  return "";
}

}  // namespace ood
