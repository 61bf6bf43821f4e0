// Weights and configurations: what is written is read again, and damage is named.
#include "tests/data/files.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "ood/data/files.h"
#include "ood/errors.h"
#include "ood/torch.h"
#include "ood/train/run_options.h"
#include "ood/train/safetensors.h"
#include "ood/train/schedule.h"

namespace ood {
namespace {

TEST(Safetensors, RoundTrip) {
  const test::TemporaryFolder folder;
  TensorFile file;
  for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf, at::kLong, at::kByte})
    file.tensors.emplace_back(at::toString(type), (torch::arange(24) * 3).to(type).view({2, 3, 4}));
  file.tensors.emplace_back("strided", torch::randn({4, 6}).t());
  file.tensors.emplace_back("scalar", torch::tensor(2.5));
  file.tensors.emplace_back("empty", torch::zeros({0, 3}));
  file.metadata = {{"who", "a \"quoted\" text"}};
  write_safetensors(folder.path / "f", file);
  const TensorFile back = read_safetensors(folder.path / "f");
  EXPECT_EQ(back.metadata, file.metadata);
  ASSERT_EQ(back.tensors.size(), file.tensors.size());
  for (std::size_t i = 0; i < file.tensors.size(); ++i) {
    EXPECT_EQ(back.tensors[i].first, file.tensors[i].first);
    EXPECT_TRUE(back.tensors[i].second.equal(file.tensors[i].second)) << file.tensors[i].first;
  }
  EXPECT_FALSE(std::filesystem::exists(folder.path / "f.tmp"));
}

TEST(Safetensors, TruncationAtAnyByteIsADataError) {
  const test::TemporaryFolder folder;
  TensorFile file;
  file.tensors.emplace_back("w", torch::randn({3, 3}));
  write_safetensors(folder.path / "f", file);
  std::ifstream in(folder.path / "f", std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  for (std::size_t n = 0; n < bytes.size(); n += 3) {
    test::write_bytes(folder.path / "short", bytes.substr(0, n));
    EXPECT_THROW(read_safetensors(folder.path / "short"), DataError) << n;
  }
}

TEST(Safetensors, AChangedBitIsADataError) {
  const test::TemporaryFolder folder;
  TensorFile file;
  file.tensors.emplace_back("w", torch::randn({3, 3}));
  file.metadata = {{"who", "me"}};
  write_safetensors(folder.path / "f", file);
  std::ifstream in(folder.path / "f", std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  for (std::size_t bit = 0; bit < 8 * bytes.size(); bit += 5) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    test::write_bytes(folder.path / "f", flipped);
    try {
      // Either the key of the checksum is none any more, and what the program wrote itself must have
      // one, or the content is what it was, as where an unused key changes.
      const TensorFile back = read_safetensors(folder.path / "f");
      if (!back.checked) continue;
      EXPECT_EQ(back.metadata, file.metadata) << bit;
      ASSERT_EQ(back.tensors.size(), 1u) << bit;
      EXPECT_EQ(back.tensors[0].first, "w") << bit;
      EXPECT_TRUE(back.tensors[0].second.equal(file.tensors[0].second)) << bit;
    } catch (const DataError&) {
    }
  }
}

TEST(Safetensors, TensorsFollowOneAnother) {
  const test::TemporaryFolder folder;
  const auto with = [&](const std::string& json, std::size_t size) {
    std::string bytes(8, '\0');
    bytes[0] = static_cast<char>(json.size());
    test::write_bytes(folder.path / "f", bytes + json + std::string(size, 'x'));
    return folder.path / "f";
  };
  const std::string a = R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]})";
  EXPECT_NO_THROW(read_safetensors(with(a + "}", 2)));
  EXPECT_THROW(read_safetensors(with(a + "}", 3)), DataError);
  for (const char* offsets : {"[3,5]", "[1,3]", "[0,2]"})
    EXPECT_THROW(read_safetensors(with(
                     a + R"(,"b":{"dtype":"U8","shape":[2],"data_offsets":)" + offsets + "}}", 5)),
                 DataError)
        << offsets;
}

TEST(Safetensors, HostileHeaders) {
  const test::TemporaryFolder folder;
  const auto with_header = [&](const std::string& json, const std::string& data) {
    std::string bytes(8, '\0');
    bytes[0] = static_cast<char>(json.size());
    test::write_bytes(folder.path / "f", bytes + json + data);
    EXPECT_THROW(read_safetensors(folder.path / "f"), DataError) << json;
  };
  with_header("{", "");
  with_header("[1]", "");
  with_header(R"({"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", "1234");
  with_header(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", "1234");
  with_header(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})", "1234");
  with_header(R"({"w":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}})",
              "1234");
  with_header(R"({"w":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}})", "1234");
}

TEST(WriteFile, WhatCannotBeWrittenIsSaid) {
  EXPECT_THROW(write_file("/nonexistent-folder/file", "x"), DataError);
}

TEST(Temporaries, OfAWriterThatIsThereStay) {
  const test::TemporaryFolder folder;
  const auto file = [&](auto writer) {
    return folder.path / ("eval.json." + std::to_string(writer) + "-0.ood-tmp");
  };
  const auto mine = file(::getpid()), parents = file(::getppid()), of_none = file(1 << 30);
  for (const auto& path : {mine, parents, of_none}) test::write_bytes(path, "half");
  remove_temporaries(folder.path);
  EXPECT_FALSE(std::filesystem::exists(of_none));
  EXPECT_FALSE(std::filesystem::exists(mine));
  EXPECT_TRUE(std::filesystem::exists(parents));
}

TEST(Config, RoundTrip) {
  const test::TemporaryFolder folder;
  RunOptions o;
  o.data = "a \"folder\"\\with";
  o.known = "0,1";
  o.ood_data = {"a=b", "c=d e"};
  o.lr = 0.1;
  o.weight_decay = 5e-4;
  o.outlier_ratio = 2;
  o.epochs = 7;
  o.objective = "outlier_exposure";
  o.parameters["outlier_exposure"]["alpha"] = 0.3;
  o.resolve();
  write_file(folder.path / "config.toml", to_toml(o));
  EXPECT_NE(to_toml(o).find("lr = 0.1\n"), std::string::npos) << to_toml(o);
  const RunOptions back = read_config(folder.path / "config.toml");
  EXPECT_EQ(to_toml(back), to_toml(o));
}

TEST(Json, ANumberThatCountsIsWhole) {
  EXPECT_EQ(whole_number(parse_json("3"), "x"), 3);
  for (const char* text : {"3.5", "1e+80", "18446744073709551615", "\"3\"", "null"}) {
    try {
      whole_number(parse_json(text), "channels");
      ADD_FAILURE() << "accepted " << text;
    } catch (const DataError& e) {
      EXPECT_EQ(std::string(e.what()),
                std::string("channels: expected a whole number, got ") + text);
    }
  }
}

TEST(Config, MistakesAreNamed) {
  const test::TemporaryFolder folder;
  const auto refused = [&](const std::string& text, const std::string& part) {
    write_file(folder.path / "c.toml", text);
    try {
      RunOptions o = read_config(folder.path / "c.toml");
      o.resolve();
      ADD_FAILURE() << "accepted " << text;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
    }
  };
  refused("epoch = 3\n", "did you mean epochs");
  refused("epochs = 'three'\n", "expected a whole number");
  refused("epochs = 1e80\n", "expected a whole number");
  refused("format = 6666666666e66\n", "format: expected a whole number");
  refused("max-pixels = 0\n", "`max-pixels`: expected 1 to");
  refused("epochs = \n", "c.toml:1");
  refused("lr = -1.0\n", "`lr`: expected at least 0");
  refused("objective = 'cross_entrpy'\n", "did you mean \"cross_entropy\"");
  refused("[cross_entropy]\nlabel_smoothing = 2.0\n", "at most 1");
  refused("[cross_entropy]\nlabel_smothing = 0.1\n", "label_smoothing");
}

TEST(Schedule, RisesThenFallsToNearZero) {
  EXPECT_NEAR(cosine_lr(0.1, 0.1, 0, 100), 0.01, 1e-12);
  EXPECT_NEAR(cosine_lr(0.1, 0.1, 9, 100), 0.1, 1e-12);
  EXPECT_NEAR(cosine_lr(0.1, 0.1, 10, 100), 0.1, 1e-12);
  EXPECT_NEAR(cosine_lr(0.1, 0, 50, 100), 0.05, 1e-12);
  EXPECT_LT(cosine_lr(0.1, 0.1, 99, 100), 1e-4);
  EXPECT_EQ(cosine_lr(0.1, 0, 0, 1), 0.1);
}

}  // namespace
}  // namespace ood
