// A rank's share of a model that several run together: the ranks of tensor parallelism each have a piece of a weight,
// the stages of a pipeline each have some of the layers.
#pragma once

namespace ft::io {

struct rank_share {
  int tensor_rank = 0;
  int tensor_parallel = 1;
  int pipeline_stage = 0;
  int pipeline_parallel = 1;
};

}  // namespace ft::io
