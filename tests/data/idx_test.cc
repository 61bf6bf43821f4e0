// Reading idx files: good ones, damaged ones, foreign ones.
#include "ood/data/idx.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include "ood/data/dataset.h"
#include "ood/errors.h"
#include "tests/data/files.h"

namespace ood {
namespace {

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const DataError& e) {
    return e.what();
  }
  return "no error";
}

TEST(Idx, PlainAndGzipGiveTheSameNumbers) {
  const test::TemporaryFolder folder;
  const auto bytes = test::idx_bytes({5, 4, 3}, 7);
  test::write_bytes(folder.path / "plain", bytes);
  gzFile gz = gzopen((folder.path / "packed.gz").c_str(), "wb");
  gzwrite(gz, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(gz);
  const auto plain = read_idx(folder.path / "plain");
  EXPECT_EQ(plain.sizes(), (std::vector<std::int64_t>{5, 4, 3}));
  EXPECT_EQ(plain[1][0][0].item<int>(), 12 * 7);
  EXPECT_TRUE(plain.equal(read_idx(folder.path / "packed.gz")));
}

TEST(Idx, EveryTruncationIsNoticed) {
  const test::TemporaryFolder folder;
  const auto bytes = test::idx_bytes({3, 2, 2}, 1);
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    test::write_bytes(folder.path / "short", bytes.substr(0, n));
    const auto text = error_of([&] { read_idx(folder.path / "short"); });
    EXPECT_NE(text.find(n < 4 ? "expected an idx file" : "truncated"), std::string::npos)
        << n << text;
  }
}

TEST(Idx, ForeignFilesAndMissingOnes) {
  const test::TemporaryFolder folder;
  test::write_bytes(folder.path / "png", "\x89PNG\r\n\x1a\n and so on");
  EXPECT_NE(error_of([&] { read_idx(folder.path / "png"); }).find("expected an idx file"),
            std::string::npos);
  EXPECT_NE(error_of([&] { read_idx(folder.path / "absent"); }).find("cannot be opened"),
            std::string::npos);
  // A header that promises 4 G x 4 G x 4 G numbers.
  test::write_bytes(folder.path / "huge", std::string("\0\0\x08\x03", 4) + std::string(12, '\xff'));
  EXPECT_NE(error_of([&] { read_idx(folder.path / "huge"); }).find("damaged"), std::string::npos);
}

TEST(Dataset, FoldersOfIdxFiles) {
  const test::TemporaryFolder folder;
  test::write_dataset(folder.path / "shapes", 20, 10, 4);
  const Dataset d = load_dataset((folder.path / "shapes").string());
  EXPECT_EQ(d.name, "shapes");
  EXPECT_EQ(d.classes(), 4);
  EXPECT_EQ(d.train.inputs.all().sizes(), (std::vector<std::int64_t>{20, 1, 8, 8}));
  EXPECT_EQ(load_inputs((folder.path / "shapes").string()).size(), 10);
  EXPECT_EQ(load_inputs((folder.path / "shapes/train-images-idx3-ubyte").string()).size(), 20);
}

TEST(Dataset, CountsMustMatch) {
  const test::TemporaryFolder folder;
  test::write_dataset(folder.path, 20, 10, 4);
  test::write_bytes(folder.path / "train-labels-idx1-ubyte", test::idx_bytes({19}, 1, 4));
  const auto text = error_of([&] { load_dataset(folder.path.string()); });
  EXPECT_NE(text.find("20 pictures"), std::string::npos) << text;
  EXPECT_NE(text.find("19 labels"), std::string::npos) << text;
  std::filesystem::remove(folder.path / "train-labels-idx1-ubyte");
  EXPECT_NE(error_of([&] { load_dataset(folder.path.string()); }).find("train-labels"),
            std::string::npos);
}

}  // namespace
}  // namespace ood
