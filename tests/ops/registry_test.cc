// Generic tests: whatever is in the registry goes through all of them. Fused path against composite
// path of the same formula, the composite always in float64. Objectives have their own tests
// elsewhere.
#include "ood/registry/registry.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "ood/ops/row_terms.h"
#include "ood/registry/text.h"
#include "ood/torch.h"
#include "tests/kernels/levels.h"

namespace ood {
namespace {

using at::Tensor;

struct Call {
  Tensor logits, target;
  std::optional<Tensor> extras{}, weight{};
  bool per_row = false;
  std::optional<std::int64_t> ignore_index{};
};

// Rows whose logsumexp lies between -2 and 33, so that hinges on any usual energy or norm are
// active for a part of them; labels of both kinds.
Call random_call(const ObjectiveEntry& e, std::int64_t rows, std::int64_t classes,
                 std::uint64_t seed, at::ScalarType type = at::kDouble) {
  auto g = at::make_generator<at::CPUGeneratorImpl>(seed);
  Call c;
  const auto options = at::TensorOptions(at::kDouble);
  c.logits = torch::randn({rows, classes}, g, options) * 2;
  c.logits = c.logits - c.logits.logsumexp(1, true) + torch::rand({rows, 1}, g, options) * 35 - 2;
  // Distances are not negative.
  if (e.input.substr(0, 5) == "minus") c.logits = -c.logits.abs();
  // One representable in float32, so that both types see the same numbers.
  c.logits = c.logits.to(at::kFloat).to(type);
  c.target = torch::randint(0, classes, {rows}, g, at::TensorOptions(at::kLong));
  c.target.masked_fill_(torch::rand({rows}, g, options).lt(0.4), -1);
  if (!e.extras.empty())
    c.extras = torch::rand({static_cast<std::int64_t>(e.extras.size()), rows}, g, options)
                   .to(at::kFloat)
                   .to(type);
  c.weight = (torch::rand({rows}, g, options) + 0.5).to(at::kFloat).to(type);
  return c;
}

struct Result {
  Tensor terms, counts, grad_logits, grad_extras, grad_weight;
};

using Op = std::tuple<Tensor, Tensor> (*)(const RowTermsArguments&);

Result run(const ObjectiveEntry& e, const Call& c, Op op, std::uint64_t seed = 1) {
  const auto leaf = [](const Tensor& t) {
    return t.detach().clone(at::MemoryFormat::Preserve).requires_grad_();
  };
  // Keeps the strides: a clone of a sliced or expanded tensor would be contiguous.
  const Tensor logits = c.logits.detach().requires_grad_();
  const auto optional = [&](const std::optional<Tensor>& t) {
    return t ? std::optional<Tensor>(leaf(*t)) : std::nullopt;
  };
  const auto extras = optional(c.extras), weight = optional(c.weight);
  const auto parameters = e.defaults();
  auto [terms, counts] =
      op({logits, c.target, extras, weight, e.name, parameters, c.per_row, c.ignore_index});
  auto g = at::make_generator<at::CPUGeneratorImpl>(seed);
  // The same upstream for both types; not 1, since the op may not be last.
  const auto upstream = torch::randn(terms.sizes(), g, at::TensorOptions(at::kDouble));
  std::vector<Tensor> inputs{logits};
  if (extras) inputs.push_back(*extras);
  if (weight) inputs.push_back(*weight);
  const auto grads = torch::autograd::grad({terms}, inputs, {upstream.to(terms.scalar_type())});
  Result r{terms.detach(), counts, grads[0], {}, {}};
  std::size_t next = 1;
  if (extras) r.grad_extras = grads[next++];
  if (weight) r.grad_weight = grads[next++];
  return r;
}

Call as_double(Call c) {
  c.logits = c.logits.to(at::kDouble);
  if (c.extras) c.extras = c.extras->to(at::kDouble);
  if (c.weight) c.weight = c.weight->to(at::kDouble);
  return c;
}

void expect_close(const Tensor& a, const Tensor& b, bool single, const std::string& what) {
  ASSERT_EQ(a.defined(), b.defined()) << what;
  if (!a.defined() || a.numel() == 0) return;
  ASSERT_EQ(a.sizes(), b.sizes()) << what;
  const double most = b.abs().max().item<double>();
  const double tolerance = single ? 2e-5 * std::max(1e-3, most) : 1e-11 * std::max(1.0, most);
  const double difference = (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
  EXPECT_LE(difference, tolerance) << what << ", largest value " << most;
}

void expect_same_result(const Result& a, const Result& b, bool single, const std::string& what) {
  expect_close(a.terms, b.terms, single, what + ": terms");
  EXPECT_TRUE(a.counts.equal(b.counts)) << what;
  expect_close(a.grad_logits, b.grad_logits, single, what + ": gradient of the logits");
  expect_close(a.grad_extras, b.grad_extras, single, what + ": gradient of the extras");
  expect_close(a.grad_weight, b.grad_weight, single, what + ": gradient of the weight");
}

bool excluded(const ObjectiveEntry& e, std::string_view test) {
  for (const auto& x : e.exclusions)
    if (x.test == test) return true;
  return false;
}

void for_all(const std::function<void(const ObjectiveEntry&)>& body) {
  const auto all = formulas();
  ASSERT_FALSE(all.empty());
  for (const ObjectiveEntry* e : all) {
    SCOPED_TRACE(std::string(e->name));
    body(*e);
  }
}

TEST(Registry, FusedAgreesWithCompositeAtEveryLevelWidthTypeAndReduction) {
  for_all([](const ObjectiveEntry& e) {
    for (const std::int64_t classes : test::kWidths)
      for (const bool per_row : {false, true})
        for (const auto type : {at::kFloat, at::kDouble}) {
          Call c = random_call(e, 60, classes, 3 + classes, type);
          c.per_row = per_row;
          const Result expected = run(e, as_double(c), ops::row_terms_composite);
          test::at_every_level([&](const std::string& level) {
            expect_same_result(
                run(e, c, row_terms), expected, type == at::kFloat,
                level + " C=" + std::to_string(classes) + (per_row ? " rows" : " sums"));
          });
        }
  });
}

// The test above says nothing about a hinge that is always or never active.
TEST(Registry, HingesAreActiveInAPartOfTheTestedRows) {
  for_all([](const ObjectiveEntry& e) {
    for (const std::int64_t classes : {7, 17, 33}) {
      Call c = random_call(e, 4000, classes, 5);
      c.per_row = true;
      const auto terms = run(e, c, ops::row_terms_composite).terms;
      for (std::int64_t t = 0; t < terms.size(0); ++t)
        for (const bool known : {true, false}) {
          const auto rows = terms[t].masked_select(known ? c.target.ge(0) : c.target.lt(0));
          const double share = rows.ne(0).to(at::kDouble).mean().item<double>();
          EXPECT_TRUE(share == 0 || share == 1 || (share > 0.2 && share < 0.8))
              << e.terms[static_cast<std::size_t>(t)] << ", C=" << classes << ": " << share;
        }
    }
  });
}

TEST(Registry, EveryNumberOfThreadsGivesTheSameBits) {
  const int before = at::get_num_threads();
  for_all([&](const ObjectiveEntry& e) {
    const Call c = random_call(e, 3000, 100, 6, at::kFloat);
    at::set_num_threads(1);
    const Result one = run(e, c, row_terms);
    for (const int threads : {2, 3, 5}) {
      at::set_num_threads(threads);
      const Result many = run(e, c, row_terms);
      EXPECT_TRUE(one.terms.equal(many.terms)) << threads;
      EXPECT_TRUE(one.grad_logits.equal(many.grad_logits)) << threads;
    }
  });
  at::set_num_threads(before);
}

TEST(Registry, EmptyAndOneSidedBatches) {
  for_all([](const ObjectiveEntry& e) {
    for (const std::string reduction : {"mean", "sum", "none"}) {
      if (e.row.combine != nullptr && reduction != "mean") continue;
      for (const std::string balance : {"default", "whole_batch", "per_population"}) {
        if (e.row.combine != nullptr && balance == "whole_batch") continue;  // has no meaning
        const auto loss_of = [&](const Call& c, const Tensor& logits) {
          return loss(logits, c.target, e.name, e.defaults(), c.extras, c.weight, reduction,
                      balance, std::nullopt);
        };
        const Call empty = random_call(e, 0, 4, 1);
        const auto none = empty.logits.detach().requires_grad_();
        const auto nothing = loss_of(empty, none);
        if (reduction != "none") {
          EXPECT_EQ(nothing.item<double>(), 0);
        }
        nothing.sum().backward();
        EXPECT_EQ(none.grad().numel(), 0);

        for (const bool known : {true, false}) {
          Call c = random_call(e, 12, 4, 2);
          c.target = known ? c.target.clamp_min(0) : torch::full_like(c.target, -3);
          const auto logits = c.logits.detach().requires_grad_();
          const auto l = loss_of(c, logits);
          l.sum().backward();
          EXPECT_TRUE(l.isfinite().all().item<bool>()) << reduction;
          EXPECT_TRUE(logits.grad().isfinite().all().item<bool>()) << reduction;
          if (!known && !e.uses_ood) {
            EXPECT_EQ(l.abs().sum().item<double>(), 0);
            EXPECT_EQ(logits.grad().abs().sum().item<double>(), 0);
          }
        }
      }
    }
  });
}

TEST(Registry, RowsThatTakeNoPartMayHoldAnything) {
  for_all([](const ObjectiveEntry& e) {
    for (const Op op : {Op(row_terms), Op(ops::row_terms_composite)})
      for (const bool per_row : {false, true}) {
        Call c = random_call(e, 20, 6, 8);
        c.per_row = per_row;
        c.ignore_index = 255;
        const Tensor ignored = torch::arange(20).remainder(5).eq(2);
        c.target.masked_fill_(ignored, 255);
        Call clean = c;
        clean.logits = c.logits.masked_fill(ignored.unsqueeze(1), 0);
        c.logits =
            c.logits.masked_fill(ignored.unsqueeze(1), std::numeric_limits<double>::quiet_NaN());
        const Result with_nan = run(e, c, op), without = run(e, clean, op);
        EXPECT_TRUE(with_nan.terms.equal(without.terms));
        EXPECT_TRUE(with_nan.grad_logits.equal(without.grad_logits));
        EXPECT_EQ(
            with_nan.grad_logits.masked_select(ignored.unsqueeze(1)).abs().sum().item<double>(), 0);
        EXPECT_EQ(with_nan.counts.sum().item<std::int64_t>(), 16);
      }
  });
}

TEST(Registry, NanAndInfinityInARowThatTakesPartGiveNan) {
  for_all([](const ObjectiveEntry& e) {
    for (const double bad :
         {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
      for (const Op op : {Op(row_terms), Op(ops::row_terms_composite)}) {
        Call c = random_call(e, 6, 5, 9);
        c.target = torch::tensor({0, 1, 2, 3, 4, 0});
        c.logits = c.logits.clone();
        c.logits[2][3] = bad;
        c.per_row = true;
        const Result r = run(e, c, op);
        EXPECT_TRUE(r.terms.select(1, 2).sum().isnan().item<bool>()) << bad;
        EXPECT_TRUE(r.grad_logits[2].isnan().all().item<bool>()) << bad;
        EXPECT_TRUE(r.terms.select(1, 1).isfinite().all().item<bool>());
        EXPECT_TRUE(r.grad_logits[1].isfinite().all().item<bool>());
      }
  });
}

TEST(Registry, AMaskedClassFollowsTheLimit) {
  for_all([](const ObjectiveEntry& e) {
    if (excluded(e, "masked_class")) return;
    for (const Op op : {Op(row_terms), Op(ops::row_terms_composite)}) {
      Call c = random_call(e, 6, 5, 10);
      c.target = torch::tensor({0, 1, 2, 0, 1, 2});
      Call limit = c;
      c.logits =
          c.logits.index_fill(1, torch::tensor({4}), -std::numeric_limits<double>::infinity());
      limit.logits = c.logits.index_fill(1, torch::tensor({4}), -1e6);
      const Result r = run(e, c, op), l = run(e, limit, op);
      expect_close(r.terms, l.terms, false, "terms");
      expect_close(r.grad_logits, l.grad_logits, false, "gradient");
    }
  });
}

TEST(Registry, LayoutsGiveTheNumbersOfTheirRows) {
  for_all([](const ObjectiveEntry& e) {
    const std::int64_t b = 3, classes = 5, h = 4, w = 2;
    Call flat = random_call(e, b * h * w, classes, 11);
    if (!flat.extras) flat.extras = std::nullopt;
    flat.per_row = true;
    const Result expected = run(e, flat, row_terms);
    const auto to_pictures = [&](const Tensor& rows) {
      return rows.view({b, h, w, classes}).movedim(-1, 1);
    };
    const auto check = [&](const Tensor& logits, const std::string& what) {
      Call c = flat;
      c.logits = logits;
      c.target = flat.target.view({b, h, w});
      c.weight = flat.weight->view({b, h, w});
      if (c.extras) c.extras = flat.extras->view({-1, b, h, w});
      // run() draws its upstream by shape; flattened it is the same sequence.
      const Result r = run(e, c, row_terms);
      expect_close(r.terms.reshape(expected.terms.sizes()), expected.terms, false, what);
      expect_close(r.grad_logits.movedim(1, -1).reshape({b * h * w, classes}), expected.grad_logits,
                   false, what + " gradient");
    };
    check(to_pictures(flat.logits), "channels last");
    check(to_pictures(flat.logits).contiguous(), "contiguous");
    auto wide = torch::full({b, classes, h, 2 * w}, 1e30, at::kDouble);
    wide.slice(3, 0, 2 * w, 2).copy_(to_pictures(flat.logits));
    check(wide.slice(3, 0, 2 * w, 2), "sliced");

    // One row: [C] with a target of no dimension.
    Call one = flat;
    one.logits = flat.logits[0];
    one.target = flat.target[0];
    one.weight = (*flat.weight)[0];
    if (one.extras) one.extras = flat.extras->select(1, 0);
    const Result r = run(e, one, row_terms);
    expect_close(r.terms, expected.terms.select(1, 0), false, "one row");

    // Expanded: all rows share their memory.
    Call shared = flat;
    shared.logits = flat.logits[0].unsqueeze(0).expand({b * h * w, classes});
    Call copied = shared;
    copied.logits = shared.logits.contiguous();
    expect_same_result(run(e, shared, row_terms), run(e, copied, row_terms), false, "expanded");
  });
}

// Pixels side by side go through kernels of their own: more of them than one run, an odd number,
// with NaN, infinities and rows that take no part.
TEST(Registry, ImagesAgreeWithTheirPixelsAsRowsAtEveryLevelAndType) {
  for_all([](const ObjectiveEntry& e) {
    const std::int64_t b = 2, h = 23, w = 29;
    for (const std::int64_t classes : {2, 5, 19})
      for (const auto type : {at::kFloat, at::kDouble}) {
        Call flat = random_call(e, b * h * w, classes, 20 + classes, type);
        flat.ignore_index = -7;
        flat.target.slice(0, 3, b * h * w, 11).fill_(-7);
        flat.logits = flat.logits.clone();
        flat.logits.select(0, 3).fill_(std::numeric_limits<double>::quiet_NaN());
        Call image = flat;
        image.logits = flat.logits.view({b, h, w, classes}).movedim(-1, 1).contiguous();
        image.target = flat.target.view({b, h, w});
        image.weight = flat.weight->view({b, h, w});
        if (image.extras) image.extras = flat.extras->view({-1, b, h, w});
        for (const bool per_row : {false, true}) {
          flat.per_row = image.per_row = per_row;
          const Result expected = run(e, as_double(flat), row_terms);
          test::at_every_level([&](const std::string& level) {
            Result r = run(e, image, row_terms);
            r.terms = r.terms.reshape(expected.terms.sizes());
            EXPECT_TRUE(r.grad_logits.is_contiguous());
            r.grad_logits = r.grad_logits.movedim(1, -1).reshape({b * h * w, classes});
            r.grad_weight = r.grad_weight.reshape(expected.grad_weight.sizes());
            if (r.grad_extras.defined())
              r.grad_extras = r.grad_extras.reshape(expected.grad_extras.sizes());
            expect_same_result(r, expected, type == at::kFloat,
                               level + " C=" + std::to_string(classes));
          });
        }
        image.logits = image.logits.clone();
        image.target = torch::zeros_like(image.target);
        image.per_row = true;
        image.logits[0][1][5][5] = std::numeric_limits<double>::quiet_NaN();
        image.logits[1][0][7][7] = std::numeric_limits<double>::infinity();
        image.logits.select(0, 0).select(1, 0).select(1, 3).fill_(0);  // the NaN pixel of above
        test::at_every_level([&](const std::string& level) {
          const Result r = run(e, image, row_terms);
          EXPECT_TRUE(r.terms.select(1, 0).select(1, 5).select(1, 5).sum().isnan().item<bool>())
              << level;
          EXPECT_TRUE(r.terms.select(1, 1).select(1, 7).select(1, 7).sum().isnan().item<bool>())
              << level;
          EXPECT_EQ(r.grad_logits.isnan().sum().item<std::int64_t>(), 2 * classes) << level;
        });
      }
  });
}

TEST(Registry, SecondDerivativesComeFromTheComposite) {
  for_all([](const ObjectiveEntry& e) {
    const Call c = random_call(e, 7, 4, 12);
    const auto second = [&](Op op) {
      const Tensor x = c.logits.detach().clone().requires_grad_();
      const auto terms =
          std::get<0>(op({x, c.target, c.extras, c.weight, e.name, e.defaults(), false, {}}));
      const auto first = torch::autograd::grad({terms.sum()}, {x}, {}, true, true)[0];
      return torch::autograd::grad({first.pow(2).sum()}, {x})[0];
    };
    expect_close(second(row_terms), second(ops::row_terms_composite), false, "second derivative");
  });
}

TEST(Registry, LossIsTheReductionOfItsRows) {
  for_all([](const ObjectiveEntry& e) {
    if (e.row.combine != nullptr) return;  // a function of the batch
    const Call c = random_call(e, 40, 6, 13);
    const auto l = [&](const char* reduction, const char* balance) {
      return loss(c.logits, c.target, e.name, e.defaults(), c.extras, c.weight, reduction, balance,
                  {});
    };
    const auto rows = l("none", "default");
    const auto id = c.target.ge(0);
    const double in = rows.masked_select(id).sum().item<double>(),
                 out = rows.masked_select(id.logical_not()).sum().item<double>();
    const double n_in = id.sum().item<double>(), n_out = 40 - n_in;
    EXPECT_EQ(rows.sizes(), c.target.sizes());
    EXPECT_NEAR(l("sum", "default").item<double>(), in + out, 1e-9 * (1 + std::abs(in + out)));
    EXPECT_NEAR(l("mean", "whole_batch").item<double>(), (in + out) / 40,
                1e-10 * (1 + std::abs(in + out)));
    EXPECT_NEAR(l("mean", "per_population").item<double>(), in / n_in + out / std::max(n_out, 1.0),
                1e-10 * (1 + std::abs(in + out)));
    EXPECT_EQ(l("mean", "default").item<double>(),
              l("mean", e.balance == Balance::kWholeBatch ? "whole_batch" : "per_population")
                  .item<double>());
  });
}

TEST(Registry, HalfTypesAreComputedInFloat32) {
  for_all([](const ObjectiveEntry& e) {
    for (const auto type : {at::kBFloat16, at::kHalf}) {
      Call c = random_call(e, 30, 9, 14, at::kFloat);
      c.logits = c.logits.to(type);
      Call wide = c;
      wide.logits = c.logits.to(at::kFloat);
      const Result half = run(e, c, row_terms), full = run(e, wide, row_terms);
      EXPECT_EQ(half.terms.scalar_type(), at::kFloat);
      EXPECT_TRUE(half.terms.equal(full.terms));
      EXPECT_EQ(half.grad_logits.scalar_type(), type);
    }
  });
}

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const c10::Error& e) {
    return e.what_without_backtrace();
  }
  return "no error";
}

TEST(Registry, ErrorsNameWhatWasExpectedAndWhatCame) {
  for_all([](const ObjectiveEntry& e) {
    const Call good = random_call(e, 6, 5, 15);
    const auto attempt = [&](const Call& c, std::vector<double> parameters) {
      return message_of([&] {
        loss(c.logits, c.target, e.name, parameters, c.extras, c.weight, "mean", "default",
             c.ignore_index);
      });
    };
    const auto has = [](const std::string& text, const std::string& part) {
      EXPECT_NE(text.find(part), std::string::npos) << text;
    };
    Call c = good;
    c.target = good.target.clone();
    c.target[4] = 5;
    has(attempt(c, e.defaults()), "got 5 in row 4");
    c = good;
    c.target = good.target.slice(0, 0, 5);
    c.weight = std::nullopt;
    has(attempt(c, e.defaults()), "got [5]");
    c = good;
    c.target = good.target.to(at::kDouble);
    has(attempt(c, e.defaults()), "integer");
    c = good;
    c.logits = good.logits.to(at::kLong);
    has(attempt(c, e.defaults()), "floating");
    auto too_many = e.defaults();
    too_many.push_back(1);
    has(attempt(good, too_many), "parameters");
    for (std::size_t p = 0; p < e.parameters.size(); ++p) {
      auto values = e.defaults();
      values[p] = std::numeric_limits<double>::quiet_NaN();
      has(attempt(good, values), std::string(e.parameters[p].name));
    }
  });
}

TEST(Registry, EntriesAreComplete) {
  for_all([](const ObjectiveEntry& e) {
    EXPECT_FALSE(e.summary.empty());
    EXPECT_FALSE(e.formula.empty());
    EXPECT_FALSE(e.paper.empty());
    EXPECT_FALSE(e.ood_labels.empty());
    EXPECT_FALSE(e.terms.empty());
    for (const auto& p : e.parameters) {
      EXPECT_FALSE(p.help.empty());
      EXPECT_FALSE(p.source.empty());
      EXPECT_GE(p.default_value, p.min);
      EXPECT_LE(p.default_value, p.max);
    }
    for (const auto& x : e.exclusions) EXPECT_FALSE(x.reason.empty());
  });
}

TEST(Registry, UnknownNamesGetASuggestion) {
  EXPECT_NE(message_of([] { get_objective("outlier_exposur"); }).find("outlier_exposure"),
            std::string::npos);
  EXPECT_EQ(nearest("xyzzy", {"cross_entropy", "cac"}), "");
}

}  // namespace
}  // namespace ood
