#include "apps/ood/scored_inputs.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <filesystem>

#include "ood/data/picture.h"
#include "ood/data/picture_files.h"
#include "ood/errors.h"
#include "ood/torch.h"

namespace ood::app {
namespace {

namespace fs = std::filesystem;

// Small enough that the work of a thread stays in its cache, large enough for matrix products.
constexpr std::int64_t kPictures = 32;
constexpr std::int64_t kRows = 1000;

// The inputs without an error so far; one without a score is an error of its own.
void score(const Detector& detector, const at::Tensor& inputs, ScoredInputs& s) {
  s.answer = detector(inputs);
  const auto none = s.answer.scores.isnan();
  if (!none.any().item<bool>()) return;
  std::int64_t row = 0;
  for (auto& error : s.errors)
    if (error.empty() && none[row++].item<bool>())
      error = "the network's numbers for it are not finite";
  s.not_finite = none.sum().item<std::int64_t>();
  const auto kept = none.logical_not();
  for (at::Tensor* t :
       {&s.answer.classes, &s.answer.scores, &s.answer.p_values, &s.answer.accepted})
    *t = t->masked_select(kept);
}

ScoredInputs decode_and_score(const Detector& detector, const PictureReading& reading,
                              c10::ArrayRef<PictureFile> files) {
  ScoredInputs s;
  std::vector<at::Tensor> good;
  for (const auto& file : files) {
    s.names.push_back(file.path.string());
    s.errors.emplace_back();
    try {
      good.push_back(detector.prepared(read_picture(file, reading).unsqueeze(0)));
    } catch (const DataError& e) {
      const std::string what = e.what(), prefix = s.names.back() + ": ";
      s.errors.back() = what.rfind(prefix, 0) == 0 ? what.substr(prefix.size()) : what;
    }
  }
  if (!good.empty()) score(detector, torch::cat(good), s);
  return s;
}

// Each thread decodes and scores pictures of its own, so that none waits for another within a
// layer; what is computed does not depend on how many threads there are.
void score_pictures(const Detector& detector, const PictureReading& reading,
                    c10::ArrayRef<PictureFile> all,
                    const std::function<void(const ScoredInputs&)>& visit) {
  const auto n = static_cast<std::int64_t>(all.size());
  const std::int64_t at_once = at::get_num_threads() * std::int64_t{8};
  for (std::int64_t first = 0; first < n; first += at_once * kPictures) {
    const auto batches = std::min(at_once, (n - first + kPictures - 1) / kPictures);
    std::vector<ScoredInputs> scored(static_cast<std::size_t>(batches));
    std::atomic<std::int64_t> next{0};
    at::parallel_for(0, at::get_num_threads(), 1, [&](std::int64_t, std::int64_t) {
      for (std::int64_t b; (b = next++) < batches;) {
        const auto begin = static_cast<std::size_t>(first + b * kPictures);
        const auto part = all.slice(begin, std::min<std::size_t>(kPictures, all.size() - begin));
        scored[static_cast<std::size_t>(b)] = decode_and_score(detector, reading, part);
      }
    });
    for (const auto& s : scored) visit(s);
  }
}

void score_rows(const Detector& detector, const Inputs& x,
                const std::function<void(const ScoredInputs&)>& visit) {
  for (std::int64_t i = 0; i < x.size(); i += kRows) {
    const auto rows = x.slice(i, std::min(i + kRows, x.size()));
    ScoredInputs s;
    for (std::int64_t row = 0; row < rows.size(0); ++row)
      s.names.push_back(std::to_string(i + row));
    s.errors.resize(s.names.size());
    score(detector, x.embeddings() ? rows.flatten(1) : detector.prepared(rows), s);
    visit(s);
  }
}

Inputs inputs_for(const Detector& detector, const std::string& data,
                  const PictureOptions& pictures) {
  const auto shape = detector.input_shape();
  const auto x = load_inputs(data, pictures);
  if (x.size() == 0) throw DataError(data + ": expected inputs, got none");
  const bool embeddings = shape.size() == 1;
  const auto width = x.channels();
  if (x.embeddings() != embeddings || (embeddings && width != shape[0]))
    throw DataError(data + ": the run takes " + input_kind(embeddings, shape[0]) + ", got " +
                    input_kind(x.embeddings(), width));
  return x;
}

// What could not be looked at.
ScoredInputs refused(const PictureFiles& files) {
  ScoredInputs s;
  for (const auto& line : files.unreadable) {
    const auto colon = line.rfind(": ");
    s.names.push_back(line.substr(0, colon));
    s.errors.push_back(line.substr(colon + 2));
  }
  const std::string other = c10::str("expected ", kFormatsRead, ", got another format");
  for (const auto& [end, paths] : files.other)
    for (const auto& path : paths) {
      s.names.push_back(path.string());
      s.errors.push_back(other);
    }
  return s;
}

}  // namespace

void score_inputs(const Detector& detector, const std::string& data, const PictureOptions& pictures,
                  const std::function<void(const ScoredInputs&)>& visit) {
  if (!fs::exists(data)) throw DataError(data + ": no such file or folder");
  const auto files = pictures_of(data);
  if (!files.files.empty() && detector.input_shape().size() != 3)
    throw DataError(data + ": the run takes embeddings, got pictures");
  if (const auto s = refused(files); !s.names.empty()) visit(s);
  PictureReading reading = detector.reading();
  reading.max_pixels = pictures.max_pixels;
  if (!files.files.empty())
    score_pictures(detector, reading, files.files, visit);
  else if (files.unreadable.empty())
    score_rows(detector, inputs_for(detector, data, pictures), visit);
}

}  // namespace ood::app
