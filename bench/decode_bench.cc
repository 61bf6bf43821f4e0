// decode_bench FOLDER SIZE THREADS SECONDS: pictures a second that are decoded, and brought to a size, as they are ahead of a
// training's step.
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "ood/data/dataset.h"
#include "ood/data/read_ahead.h"
#include "ood/torch.h"

int main(int argc, char** argv) try {
  if (argc != 5)
    return std::fprintf(stderr, "usage: decode_bench FOLDER SIZE THREADS SECONDS\n"), 2;
  const std::int64_t side = std::atoll(argv[2]), threads = std::atoll(argv[3]);
  const double seconds = std::atof(argv[4]);
  ood::PictureOptions options;
  options.size = {side, side, /*crop=*/true};
  options.cache = 0;
  const auto inputs = ood::load_inputs(argv[1], options);
  constexpr std::int64_t kBatch = 64;
  ood::ReadAhead ahead(
      [&](std::int64_t step) {
        std::vector<ood::ReadAhead::Row> rows;
        for (std::int64_t i = 0; i < kBatch; ++i)
          rows.push_back({false, (step * kBatch + i) % inputs.size(), 0});
        return rows;
      },
      [&](const std::vector<ood::ReadAhead::Row>& rows) {
        std::vector<std::int64_t> positions;
        for (const auto& r : rows) positions.push_back(r.position);
        return inputs.at(positions);
      },
      threads);
  std::int64_t step = 0;
  ahead.take(step++);
  const auto start = std::chrono::steady_clock::now();
  double elapsed = 0;
  const auto before = step;
  for (; elapsed < seconds;
       elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count())
    ahead.take(step++);
  std::printf("%.0f\n", static_cast<double>((step - before) * kBatch) / elapsed);
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "decode_bench: %s\n", e.what());
  return 1;
}
