// Asks a trained run about pictures: detector RUN PICTURE...
#include <ood/data/picture.h>
#include <ood/train/detector.h>

#include <cstdio>

int main(int argc, char** argv) try {
  if (argc < 3) return std::fprintf(stderr, "usage: detector RUN PICTURE...\n"), 2;
  const auto detector = ood::Detector::load(argv[1]);
  const auto shape = detector.input_shape();  // C, H, W
  if (shape.size() != 3)
    return std::fprintf(stderr, "detector: expected a run on pictures, %s takes embeddings\n",
                        argv[1]),
           2;
  for (int i = 2; i < argc; ++i) {
    const auto picture = ood::read_picture(argv[i], detector.reading());
    const auto answer = detector(detector.prepared(picture.unsqueeze(0)));
    const auto known = answer.classes[0].item<std::int64_t>();  // -1: the run knows one class
    const auto name = known < 0 ? "-" : detector.class_names().at(known);
    std::printf("%s: %s, score %.4f, %s\n", argv[i], name.c_str(), answer.scores[0].item<double>(),
                answer.accepted[0].item<bool>() ? "accepted" : "rejected");
  }
  return 0;
} catch (const c10::Error& e) {  // its what() has a backtrace, too
  std::fprintf(stderr, "detector: %s\n", e.what_without_backtrace());
  return 1;
} catch (const std::exception& e) {
  std::fprintf(stderr, "detector: %s\n", e.what());
  return 1;
}
