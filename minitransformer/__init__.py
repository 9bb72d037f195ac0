"""minitransformer: the Transformer of "Attention Is All You Need" on minigrad, with every part open to inspection.

>>> import minitransformer as mt
>>> model = mt.Transformer(mt.TransformerConfig(src_vocab_size=20, d_model=16, nhead=2, num_decoder_layers=1))
>>> mt.greedy(model, [[5, 6, 7, 2]], max_len=1).shape
(1, 1)
"""

from .attention import MultiHeadAttention
from .beam import Hypothesis, beam_search
from .cache import Cache, Segments
from .config import TransformerConfig
from .decoding import Step, evaluating, greedy
from .evaluate import Scores, Translator
from .jacobi import Converged, jacobi
from .language import Classifier, LanguageModel
from .layers import (
    ACTIVATIONS,
    FEED_FORWARDS,
    NORMS,
    AddNorm,
    BatchNorm,
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    PreNorm,
    SwiGLU,
)
from .masks import causal_mask, padding_mask
from .model import Decoder, Encoder, TokenEmbedding, Transformer
from .positions import (
    POSITIONS,
    ALiBi,
    Axial,
    Learned,
    Positions,
    Relative,
    Rotary,
    Sinusoidal,
    SinusoidalInit,
    T5Bias,
    TransformerXL,
)
from .prompts import Continue
from .recurrent import AdditiveAttention, GRUCache, GRUConfig, GRUDecoder, GRUSeq2Seq
from .runs import load
from .sampling import filtered, sample
from .schedule import noam
from .scores import ATTENTIONS, SCALES, Additive, General, ScaledDotProduct, Score
from .train import TrainConfig, Trainer, TrainingError
