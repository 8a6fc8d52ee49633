"""What stands between a stored weight and the weight a layer uses, and the layer that holds it."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import keras
import numpy as np

from litesmith.errors import ModelError
from litesmith.parametrize import folding, internals
from litesmith.parametrize.telling import tell

_noted: contextvars.ContextVar[bool | None] = contextvars.ContextVar("training", default=None)


@contextlib.contextmanager
def training_noted(training: Any) -> Iterator[None]:
    """Note `training` for holders that Keras tells nothing; None leaves what was noted before."""
    if training is None:
        yield
        return
    token = _noted.set(training)
    try:
        yield
    finally:
        _noted.reset(token)


class Parametrization(keras.layers.Layer):
    """One technique on one weight: its state, and the function from weight to weight.

    A subclass names its constructor's arguments in `fields`, makes its state in `create_state`,
    and computes in `transform`. State is float32, or a smaller type, whatever the layer's dtype
    policy, and as a rule not trainable. Every subclass is registered with
    `keras.saving.register_keras_serializable("litesmith")`.

    Args:
        shape: shape of the weight.
        calls_per_step: how often one training step calls the layer (2 for a layer that is used
            twice in a model); the step counter goes by it.
    """

    fields: ClassVar[tuple[str, ...]] = ()
    # Whether it makes zeros that those after it keep.
    makes_zeros: ClassVar[bool] = False
    # Whether the values it makes are few over the whole kernel, which those after it keep.
    makes_few: bool = False
    # Whether it can be told to be about the folded weight (`fold`).
    can_fold: ClassVar[bool] = False

    def __init__(self, *, shape: tuple[int, ...], calls_per_step: int = 1, **options: Any):
        options["dtype"], options["autocast"] = "float32", False
        super().__init__(**options)
        self.shape, self.calls_per_step = tuple(shape), calls_per_step
        self.supports_jit = True

    @property
    def folded(self) -> bool:
        """Whether `transform` is about the weight as it is after BatchNorm has been folded in."""
        return False

    # Which folded weights anything depends on, where some are of channels that never vary; bool, of
    # a shape that broadcasts to the weight's. Known only until it starts.
    felt: np.ndarray | None = None

    def fold(self) -> None:
        """Told, before training, that from now on it is about the folded weight."""
        raise NotImplementedError(f"{type(self).__name__} is not about folded weights")

    def follow(self, earlier: list[Parametrization]) -> None:
        """Told once, when a model is prepared, which parametrizations the weight passes before."""

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for saving."""
        config = {"name": self.name, "shape": list(self.shape)}
        config["calls_per_step"] = self.calls_per_step
        return {**config, **{name: getattr(self, name) for name in self.fields}}

    def state(
        self,
        name: str,
        shape: tuple[int, ...] = (),
        initializer: str = "zeros",
        dtype: str = "float32",
        aggregation: str = "only_first_replica",
        trainable: bool = False,
    ) -> keras.Variable:
        """Add a variable of this parametrization.

        Args:
            name: its name.
            shape: its shape.
            initializer: a Keras initializer.
            dtype: its type; not changed by mixed precision.
            aggregation: how replicas agree under distribution.
            trainable: whether the optimizer trains it with the weights; then it must not be
                assigned while training.
        """
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            dtype=dtype,
            trainable=trainable,
            autocast=False,
            aggregation="mean" if trainable else aggregation,
        )

    def build(self, input_shape: Any = None) -> None:
        """Create the state; called by the holder."""
        self.create_state()

    def create_state(self) -> None:
        """Add the variables, by `state`."""

    def start(self, weight: np.ndarray) -> np.ndarray | None:
        """Set the state from the weight's value, once, when a model is prepared.

        Returns:
            What the weight is to be from now on, zeros apart; None leaves it as it is.
        """
        return None

    def transform(self, weight: Any, training: bool) -> Any:
        """The weight to use.

        Args:
            weight: tensor of `shape`, the stored weight or what the technique before made of it.
            training: whether this call is a training step: only then may state change.
        """
        raise NotImplementedError(f"{type(self).__name__} must define transform(weight, training)")

    def progress(self) -> dict[str, Any]:
        """What training came to, for reports: JSON-able."""
        return {}

    def unfinished(self) -> str | None:
        """What training ended too early for, in words; None where all was reached."""
        return None

    def call(self, weight: Any, training: bool | None = None) -> Any:
        """`transform`, as a Keras layer."""
        return self.transform(weight, bool(training))

    def load_own_variables(self, store: Any) -> None:
        """Load state; a checkpoint from before `prepare` has none, and leaves it as it is."""
        if len(store.keys()) or not self.variables:
            super().load_own_variables(store)


def _live(link: Any) -> Parametrization:
    return (
        link if isinstance(link, Parametrization) else keras.saving.deserialize_keras_object(link)
    )


@keras.saving.register_keras_serializable("litesmith")
class Holder(keras.layers.Layer):
    """The one child that `attach` adds to a layer: all its parametrizations, weight by weight.

    Args:
        targets: for each weight `{"index", "suffix", "shape"}`: its place in the layer's own
            `weights`, the end of its path, and its shape; and `"scale"`, `{"place", "axes"}` of
            what scales its channels (`neighbours.Scale`), where a parametrization works on the
            folded weight.
        chains: for each weight its parametrizations, in order, serialized or live.
        origin: JSON-able, kept with the layer when it is saved: how the model was prepared.
        sites: for each tap the `sites.Place.site` of its place.
        taps: what stands there, serialized or live.
    """

    def __init__(
        self,
        targets: list[dict[str, Any]],
        chains: list[list[Any]],
        origin: dict[str, Any] | None = None,
        sites: list[dict[str, Any]] | None = None,
        taps: list[Any] | None = None,
        **options: Any,
    ):
        options["dtype"], options["autocast"] = "float32", False
        super().__init__(**options)
        live = [[_live(link) for link in chain] for chain in chains]
        live_taps = [_live(tap) for tap in taps or []]
        # Plain attributes would be wrapped in trackers; the saver must see each layer just once.
        with internals.untracked():
            self._targets = [dict(target) for target in targets]
            self._chains = live
            self._origin = origin
            self._variables: list[keras.Variable] | None = None
            self._scales = [folding.Hidden() for _ in targets]
            self._sites = [dict(site) for site in sites or []]
            self._taps = live_taps
            self._at = folding.Hidden()
        self.links = [link for chain in live for link in chain] + live_taps
        # State exists from the start, so that loading finds it whenever the layer gets built.
        for link in self.links:
            if not link.built:
                with keras.name_scope(self.name):
                    link.build()
                link.built = True
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for saving."""
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "targets": self._targets,
            "chains": [[serialize(link) for link in chain] for chain in self._chains],
            "origin": self._origin,
            "sites": self._sites,
            "taps": [serialize(tap) for tap in self._taps],
        }

    @property
    def origin(self) -> dict[str, Any] | None:
        """How the model was prepared, where this holder is the one that keeps it."""
        return self._origin

    @origin.setter
    def origin(self, value: dict[str, Any] | None) -> None:
        with internals.untracked():
            self._origin = value

    def build(self, input_shape: Any = None) -> None:
        """Nothing to build: state is made by the constructor."""

    def load_own_variables(self, store: Any) -> None:
        """The holder has no variables of its own."""

    def chains(self) -> list[tuple[dict[str, Any], list[Parametrization]]]:
        """Each target and its parametrizations."""
        return list(zip(self._targets, self._chains, strict=True))

    # Whether the call under way is a training step; noted by `use`.
    trains: bool = False

    @property
    def has_taps(self) -> bool:
        """Whether something the layer takes or gives passes through a tap."""
        return bool(self._taps)

    def taps(self) -> list[tuple[dict[str, Any], Any]]:
        """Each site and the tap that stands there."""
        return list(zip(self._sites, self._taps, strict=True))

    def tapped(self, layers: Callable[[], list[keras.layers.Layer]]) -> list[Any]:
        """Inner layer, site and tap of each.

        Args:
            layers: gives the layer this is the holder of and those inside it, in order.
        """
        if not self._at.places:
            inner = layers()
            self._at.places = [(inner[site["inner"]], site, tap) for site, tap in self.taps()]
        return self._at.places

    @property
    def found(self) -> bool:
        """Whether `find` has had its answer."""
        return self._variables is not None

    def find(self, weights: Sequence[keras.Variable]) -> list[keras.Variable] | None:
        """The variables this holder is about.

        Args:
            weights: the layer's weights but for the holder's own; not looked at once it is `found`.

        Returns:
            One variable a target; None while the layer is not built.

        Raises:
            ModelError: the layer has other weights than it had when it was prepared.
        """
        if self._variables is None:
            if not weights and self._targets:
                return None
            found = []
            for target in self._targets:
                index, shape = target["index"], tuple(target["shape"])
                if index >= len(weights) or tuple(weights[index].shape) != shape:
                    raise ModelError(
                        f"weight {target['suffix']!r} of layer {self.name!r}",
                        expected=f"shape {shape} at place {index} of the layer's weights",
                        received=str([tuple(weight.shape) for weight in weights]),
                        fix="prepare the model again",
                    )
                found.append(weights[index])
            with internals.untracked():
                self._variables = found
        return self._variables

    def meet(self, layer: keras.layers.Layer, locate: Callable[..., Any]) -> None:
        """Find the layers that scale this one's outputs, where a weight is used folded.

        Args:
            layer: the layer this is the holder of.
            locate: `walking.locate`.

        Raises:
            ModelError: one is not there.
        """
        for target, hidden in zip(self._targets, self._scales, strict=True):
            if target.get("scale") and hidden.layer is None:
                hidden.layer = locate(layer, target["scale"]["place"])
                # While a model is being loaded, the layer has no neighbours yet.
                place = target["scale"]["place"] or {}
                side = internals.preceding if "before" in place else internals.following
                if hidden.layer is None and side(layer):
                    raise ModelError(
                        f"layer {layer.name!r}",
                        expected=f"what scales it: {target['scale']['place']}",
                        received="other layers after it",
                        fix="strip the model and prepare it again",
                    )
                if hidden.layer is not None and not target["scale"]["before"]:
                    folding.hold(hidden.layer)

    def scales(self) -> list[tuple[keras.layers.Layer, tuple[int, ...], bool] | None]:
        """For each target that is used folded what scales it.

        Returns:
            The layer, the kernel's axes of that, and whether it scales the input; or None.
        """
        return [
            (hidden.layer, tuple(target["scale"]["axes"]), target["scale"]["before"])
            if hidden.layer is not None
            else None
            for target, hidden in zip(self._targets, self._scales, strict=True)
        ]

    def scaled(self, number: int, scale: Any) -> None:
        """Be told, after it was made, what scales a target's channels.

        Args:
            number: of the target.
            scale: a `neighbours.Scale`.
        """
        with internals.untracked():
            known = {"place": scale.place, "axes": list(scale.axes), "before": scale.before}
            self._targets[number]["scale"] = known
        self.know(number, scale.layer)

    def know(self, number: int, scale: keras.layers.Layer) -> None:
        """Be told what scales a target, where only the live model can tell."""
        self._scales[number].layer = scale
        if not self._targets[number]["scale"]["before"]:
            folding.hold(scale)

    def use(self, training: bool | None = None, *, folded: bool = False) -> list[Any]:
        """The weights to use, one a target.

        A plain function, not a call of this layer, which would cost a part of the step where
        that runs operator by operator.

        Args:
            training: whether this call is a training step; None for what Keras knows of the call.
            folded: leave those folded that are worked on so.
        """
        if training is None:
            training = internals.training_of_call()
        if training is None:
            training = _noted.get()
        internals.set_plainly(self, "trains", bool(training))
        with internals.without_autocast():
            return self._used(bool(training), folded)

    def _used(self, training: bool, folded: bool) -> list[Any]:
        assert self._variables is not None
        used = []
        for variable, chain, scale in zip(
            self._variables, self._chains, self.scales(), strict=True
        ):
            weight = stored = internals.value_of(variable)
            factor = None
            for link in chain:
                if link.folded and factor is None and scale is not None:
                    factor = folding.factors(scale[0])
                    factor = folding.spread(factor, weight.shape, scale[1])
                    weight = stored = weight * factor
                weight = link.transform(weight, training)
            if scale is not None and factor is not None and training:
                tell(folding.gain_key(scale[0]), folding.gain(weight, stored, scale[1]))
            used.append(weight if folded or factor is None else weight / factor)
        return used
