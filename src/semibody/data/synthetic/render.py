"""Draws posed people with moderngl on EGL: one vertex array for all parts, 4x MSAA, a soft shadow map.

A ``Stage`` is one GL context; keep one per process. llvmpipe (software) and GPUs give the same kind of
picture, but only runs on one driver give the same bytes.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.data.synthetic.landmarks import FACE_VERTICES
from semibody.data.synthetic.person import (
    CLOTH,
    EYE,
    GROUPS,
    HAIR,
    LASH,
    MOUTH,
    SHELL,
    SKIN,
    TEETH,
    Person,
    garment_lines,
)
from semibody.types import MissingPartError, SemibodyError

_SHADOW = 512
_SAMPLES = 4
_ALPHA_TO_COVERAGE = 0x809E


@dataclass(frozen=True)
class Scene:
    """Camera, light and background of a clip.

    ``view_projection`` (4, 4) and ``light_projection`` (4, 4) · ``eye`` (3,) camera position ·
    ``key_direction`` towards the key light · colours linear RGB · ``background`` (h, w, 3) uint8 ·
    ``mouth`` (3,) rest position between the lips (what lies behind it is in the dark).
    """

    view_projection: NDArray[np.float64]
    light_projection: NDArray[np.float64]
    eye: NDArray[np.float64]
    key_direction: NDArray[np.float64]
    key: NDArray[np.float64]
    fill_direction: NDArray[np.float64]
    fill: NDArray[np.float64]
    sky: NDArray[np.float64]
    ground: NDArray[np.float64]
    exposure: float
    background: NDArray[np.uint8]
    mouth: NDArray[np.float64]


_CUT = """
uniform vec4 cut; uniform vec2 arm; uniform vec3 face_middle; uniform vec2 face_size;
// How far inside the own garment a rest position lies (dm); below 0 there is no cloth.
float to_hem(vec3 at) {
  float across = abs(at.x), along = (across - arm.x) / arm.y;
  float neck = cut.x - cut.y * max(0.0, 0.75 - across) * step(0.0, at.z - 0.2);
  return min(neck + 0.3 * min(across, 1.2) - at.y, (cut.z - along) * arm.y);
}
// Hair that would hang over eyes, nose and mouth. The window's corners are round and hold the eyes.
bool over_face(vec3 at) {
  vec2 off = (at.xy - face_middle.xy) / face_size;
  off *= off;
  return at.z > face_middle.z && dot(off, off) < 1.0;
}
"""

_VERTEX = """
#version 330
in vec3 in_position; in vec3 in_normal; in vec2 in_uv; in vec3 in_rest; in vec2 in_surface;
uniform mat4 view; uniform mat4 light;
out vec3 position; out vec3 normal; out vec3 uv; out vec3 rest; out vec4 shadowed; flat out int kind;
void main() {
  gl_Position = view * vec4(in_position, 1.0);
  position = in_position; normal = in_normal; uv = vec3(in_uv.x, 1.0 - in_uv.y, in_surface.x);
  rest = in_rest; kind = int(in_surface.y + 0.5);
  shadowed = light * vec4(in_position + 0.06 * in_normal, 1.0);
}
"""

_FRAGMENT = """
#version 330
in vec3 position; in vec3 normal; in vec3 uv; in vec3 rest; in vec4 shadowed; flat in int kind;
uniform sampler2DArray textures; uniform sampler2DShadow shade;
uniform vec3 eye, key_direction, key, fill_direction, fill, sky, ground, mouth, cloth, second;
uniform float exposure; uniform vec4 weave;
out vec4 colour;
#KINDS#
float lit() {
  vec3 p = shadowed.xyz / shadowed.w * 0.5 + 0.5;
  if (p.z > 1.0) return 1.0;
  float s = 0.0, r = 1.6 / 512.0;
  s += texture(shade, vec3(p.xy + vec2(-r, -0.4 * r), p.z - 0.0015));
  s += texture(shade, vec3(p.xy + vec2(0.4 * r, -r), p.z - 0.0015));
  s += texture(shade, vec3(p.xy + vec2(r, 0.4 * r), p.z - 0.0015));
  s += texture(shade, vec3(p.xy + vec2(-0.4 * r, r), p.z - 0.0015));
  return s * 0.25;
}

vec3 fabric(vec3 base) {
  // Patterns live in the rest pose, so that they move with the cloth. x is unrolled along the sleeve.
  vec2 p = vec2(rest.x + 0.6 * rest.z, rest.y) / weave.y;
  float t = 0.0, aa = 0.12 + 1.2 * fwidth(p.x);
  int pattern = int(weave.x + 0.5);
  if (pattern == 1) t = smoothstep(0.5 - aa, 0.5 + aa, abs(fract(p.y) - 0.5) * 2.0);
  else if (pattern == 2) t = 0.7 * smoothstep(0.75, 0.95, abs(fract(p.x * 1.5) - 0.5) * 2.0);
  else if (pattern == 3) t = 0.5 * (smoothstep(0.5 - aa, 0.5 + aa, abs(fract(p.x) - 0.5) * 2.0)
                                  + smoothstep(0.5 - aa, 0.5 + aa, abs(fract(p.y) - 0.5) * 2.0));
  else if (pattern == 4) t = 1.0 - smoothstep(0.22, 0.34, length(fract(p * 1.3) - 0.5));
  else if (pattern == 5)
    t = smoothstep(0.1, 0.5, sin(p.x * 2.1 + sin(p.y * 1.7)) * sin(p.y * 2.3 + sin(p.x * 1.3)));
  return mix(base, second * (0.3 + 0.7 * dot(base, vec3(0.4)) / max(dot(cloth, vec3(0.4)), 0.08)), t);
}

void main() {
  vec4 texel = texture(textures, uv);
  vec3 n = normalize(normal), v = normalize(eye - position);
  if (HAIR || LASH || SHELL) n = dot(n, v) < 0.0 ? -n : n;
  vec3 albedo = pow(texel.rgb, vec3(2.2));
  float alpha = 1.0, gloss = 20.0, shine = 0.03, wrap = 0.25;
  vec3 terminator = vec3(0.0);
  if (SKIN) { shine = 0.055; gloss = 18.0; wrap = 0.32; terminator = vec3(0.10, 0.015, 0.0); }
  else if (CLOTH) {
    if (texel.a < 0.4) discard;
    if (weave.x > 0.5 && rest.y > 0.6) albedo = fabric(albedo);
    shine = 0.015;
  } else if (HAIR) {
    alpha = smoothstep(0.15, 0.75, texel.a);
    if (alpha < 0.06 || over_face(rest)) discard;
    shine = 0.09; gloss = 14.0;
  }
  else if (EYE) { shine = 0.9; gloss = 260.0; }
  else if (TEETH) { shine = 0.25; gloss = 60.0; albedo *= vec3(0.78, 0.75, 0.70); }
  else if (MOUTH) { shine = 0.2; gloss = 40.0; albedo = vec3(0.36, 0.10, 0.09); }
  else if (LASH) { alpha = texel.a; if (alpha < 0.06) discard; shine = 0.0; }
  else if (SHELL) {
    float hem = to_hem(rest);
    if (hem < 0.0) discard;
    albedo = fabric(cloth) * albedo;
    albedo *= mix(0.72, 1.0, smoothstep(0.02, 0.13, abs(hem - 0.12)));
    // Soft folds: they gather at the waist and the elbows.
    float fold = sin(rest.x * 5.0 + rest.y * 2.3 + 1.5 * sin(rest.y * 1.9));
    fold *= sin(rest.y * 3.1 + rest.x * 1.7);
    float deep = smoothstep(4.8, 1.0, rest.y) * 0.22 + 0.05;
    n = normalize(n + deep * fold * vec3(0.8, 0.5, 0.0));
    shine = 0.012;
  }
  float facing = dot(n, key_direction);
  float shadow = lit();
  float diffuse = max(0.0, (facing + wrap) / (1.0 + wrap));
  float soft = diffuse * mix(1.0, shadow, 0.92);
  vec3 light = key * soft + key * terminator * smoothstep(0.35, 0.0, abs(facing)) * shadow;
  light += fill * max(0.0, 0.35 + 0.65 * dot(n, fill_direction));
  float occluded = 1.0;
  if (SKIN || TEETH || MOUTH) {
    vec3 m = rest - mouth;
    float inside = 1.0 - smoothstep(0.30, 0.42, length(m.xy * vec2(0.85, 1.0)));
    inside *= smoothstep(0.12, 0.5, -m.z);
    if (SKIN) {
      albedo = mix(albedo, vec3(0.12, 0.02, 0.02), inside);
      occluded = mix(1.0, 0.15, inside);
    } else occluded = mix(0.85, 0.12, smoothstep(0.05, 0.55, -m.z));
  }
  light += mix(ground, sky, 0.5 + 0.5 * n.y) * (0.75 + 0.25 * shadow);
  vec3 h = normalize(v + key_direction);
  float fresnel = 0.3 + 0.7 * pow(1.0 - max(0.0, dot(n, v)), 4.0);
  float spark = pow(max(0.0, dot(n, h)), gloss) * shine * mix(1.0, fresnel * 2.0, SKIN ? 1.0 : 0.0);
  if (EYE) {  // the wet cornea bulges: it mirrors a lamp from nearly anywhere, near the middle of the eye
    float glint = max(0.0, dot(n, normalize(v + 0.45 * key_direction)));
    spark = 1.2 * smoothstep(0.988, 0.998, glint) + 0.06 * pow(glint, 24.0);
  }
  vec3 h2 = normalize(v + fill_direction);
  float spark2 = pow(max(0.0, dot(n, h2)), gloss) * shine * 0.5;
  if (HAIR) {  // hair glints across the strands: use the angle to the near-vertical strand
    float along = dot(h, normalize(vec3(0.0, 1.0, 0.0) - n * n.y));
    spark = pow(sqrt(max(0.0, 1.0 - along * along)), 24.0) * 0.14 * smoothstep(-0.1, 0.5, facing);
  }
  vec3 specular = (key * spark * shadow + fill * spark2) * (HAIR ? 0.4 + 2.0 * albedo : vec3(1.0));
  if (EYE) occluded = 0.86 - 0.2 * step(0.0, -n.z);
  vec3 c = (albedo * light + specular) * occluded * exposure;
  c = c * (1.0 + c * 0.12) / (1.0 + 0.45 * c);
  colour = vec4(pow(clamp(c, 0.0, 1.0), vec3(1.0 / 2.2)), alpha);
}
"""

_SHADOW_VERTEX = """
#version 330
in vec3 in_position; in vec2 in_uv; in vec3 in_rest; in vec2 in_surface;
uniform mat4 light; out vec3 uv; out vec3 rest; flat out int kind;
void main() {
  gl_Position = light * vec4(in_position, 1.0);
  rest = in_rest;
  uv = vec3(in_uv.x, 1.0 - in_uv.y, in_surface.x);
  kind = int(in_surface.y + 0.5);
}
"""
_SHADOW_FRAGMENT = """
#version 330
in vec3 uv; in vec3 rest; flat in int kind; uniform sampler2DArray textures;
#KINDS#
void main() {
  if (HAIR && (texture(textures, uv).a < 0.4 || over_face(rest))) discard;
  if (LASH || (SHELL && to_hem(rest) < 0.0)) discard;
}
"""

_SCREEN_VERTEX = """
#version 330
in vec2 in_corner; out vec2 at;
void main() { at = vec2(in_corner.x, -in_corner.y) * 0.5 + 0.5; gl_Position = vec4(in_corner, 0.99999, 1.0); }
"""
_SCREEN_FRAGMENT = """
#version 330
in vec2 at; uniform sampler2D picture; out vec4 colour;
void main() { colour = vec4(texture(picture, at).rgb, 1.0); }
"""


_KINDS = {
    "SKIN": SKIN, "CLOTH": CLOTH, "HAIR": HAIR, "EYE": EYE, "TEETH": TEETH, "MOUTH": MOUTH, "LASH": LASH,
    "SHELL": SHELL,
}  # fmt: skip


def _for_group(text: str, group: tuple[int, ...]) -> str:
    """A shader for some kinds of surface only.

    llvmpipe computes both sides of every branch, so a shader for its own kinds only is twice as fast.
    """
    tests = (f"#define {name} {f'(kind == {k})' if k in group else 'false'}" for name, k in _KINDS.items())
    return text.replace("#KINDS#", "\n".join(tests) + _CUT)


class Stage:
    """A GL context that draws ``size`` × ``size`` pictures of one person at a time.

    Raises MissingPartError when moderngl or EGL is missing.
    """

    def __init__(self, size: int) -> None:
        # One thread a process: workers are the parallelism, and the picture must not depend on it.
        os.environ.setdefault("LP_NUM_THREADS", "1")
        gl = _context()
        self._gl, self.size = gl, size
        self._programs = [
            gl.program(vertex_shader=_VERTEX, fragment_shader=_for_group(_FRAGMENT, group))
            for group in GROUPS
        ]
        self._shadow_programs = [
            gl.program(vertex_shader=_SHADOW_VERTEX, fragment_shader=_for_group(_SHADOW_FRAGMENT, group))
            for group in GROUPS
        ]
        self._screen_program = gl.program(vertex_shader=_SCREEN_VERTEX, fragment_shader=_SCREEN_FRAGMENT)
        corners = gl.buffer(np.array([-1, -1, 3, -1, -1, 3], np.float32).tobytes())
        self._screen = gl.vertex_array(self._screen_program, [(corners, "2f", "in_corner")])
        self._samples = gl.framebuffer(
            [gl.renderbuffer((size, size), 4, samples=_SAMPLES)],
            gl.depth_renderbuffer((size, size), samples=_SAMPLES),
        )
        self._depth = gl.depth_texture((size, size))
        self._picture = gl.framebuffer([gl.renderbuffer((size, size), 4)], self._depth)
        self._shadow = gl.depth_texture((_SHADOW, _SHADOW))
        self._shadow.compare_func = "<="
        self._shadow.repeat_x = self._shadow.repeat_y = False
        self._shadow_target = gl.framebuffer(depth_attachment=self._shadow)
        self._background = gl.texture((size, size), 3)
        self._owned: list[Any] = []

    def dress(self, person: Person) -> None:
        """Load a person: textures and everything that does not move."""
        gl = self._gl
        for thing in self._owned:
            thing.release()
        layers, height, width, _ = person.textures.shape
        self._textures = gl.texture_array(
            (width, height, layers), 4, np.ascontiguousarray(person.textures).tobytes()
        )
        self._textures.build_mipmaps()
        self._textures.filter = (gl.LINEAR_MIPMAP_NEAREST, gl.LINEAR)
        count = len(person.rest)
        fixed = np.concatenate(
            [person.uv, person.rest, person.layer[:, None], person.kind[:, None]], axis=1
        ).astype(np.float32)
        self._fixed = gl.buffer(fixed.tobytes())
        self._moving = gl.buffer(reserve=count * 24, dynamic=True)
        index = gl.buffer(person.triangles.astype(np.uint32).tobytes())
        content = [
            (self._moving, "3f 3f", "in_position", "in_normal"),
            (self._fixed, "2f 3f 2f", "in_uv", "in_rest", "in_surface"),
        ]
        self._arrays = [
            gl.vertex_array(program, content, index, skip_errors=True) for program in self._programs
        ]
        content = [
            (self._moving, "3f 12x", "in_position"),
            (self._fixed, "2f 3f 2f", "in_uv", "in_rest", "in_surface"),
        ]
        self._shadow_arrays = [
            gl.vertex_array(program, content, index, skip_errors=True) for program in self._shadow_programs
        ]
        self._owned = [
            self._textures, self._fixed, self._moving, index, *self._arrays, *self._shadow_arrays,
        ]  # fmt: skip
        cloth = person.look.cloth
        neck, shoulder, arm = garment_lines(person.heads, person.bones)
        pattern = cloth["pattern"] if (not person.look.clothes or cloth["recolour"]) else 0
        self._set("cloth", np.array(cloth["colour"]) ** 2.2)
        self._set("second", np.array(cloth["second"]) ** 2.2)
        self._set("weave", (float(pattern), float(cloth["scale"]), shoulder, arm))
        neckline = float(neck - 0.42 + 0.4 * cloth["neckline"])
        self._set("cut", (neckline, float(cloth["vee"]), float(cloth["sleeve"]), 0.0))
        self._set("arm", (shoulder, arm))
        middle, reach = _face_window(person)
        self._set("face_middle", middle)
        self._set("face_size", reach)
        self._counts = [3 * count for count in person.groups]

    def light(self, scene: Scene) -> None:
        """Load camera, lights and background."""
        for name in ("eye", "key_direction", "key", "fill_direction", "fill", "sky", "ground", "mouth"):
            self._set(name, getattr(scene, name))
        self._set("exposure", scene.exposure)
        self._set("view", tuple(scene.view_projection.T.ravel().tolist()))
        self._set("light", tuple(scene.light_projection.T.ravel().tolist()))
        self._background.write(np.ascontiguousarray(scene.background).tobytes())

    def draw(self, vertices: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Draw positions and normals (n, 6): uint8 (s, s, 3) RGB and depth (s, s) 0..1, top row first."""
        gl = self._gl
        self._moving.write(np.ascontiguousarray(vertices))
        gl.enable(gl.DEPTH_TEST)
        self._shadow_target.use()
        self._shadow_target.clear(depth=1.0)
        self._textures.use(0)
        self._set("textures", 0)
        self._set("shade", 1)
        self._render(self._shadow_arrays)
        self._samples.use()
        self._samples.clear(depth=1.0)
        gl.disable(gl.DEPTH_TEST)
        self._background.use(2)
        self._screen_program["picture"].value = 2
        self._screen.render()
        gl.enable(gl.DEPTH_TEST)
        self._shadow.use(1)
        self._render(self._arrays)
        gl.copy_framebuffer(self._picture, self._samples)
        rgb = np.frombuffer(self._picture.read(components=3), np.uint8).reshape(self.size, self.size, 3)
        depth = np.frombuffer(self._depth.read(), np.float32).reshape(self.size, self.size)
        return np.ascontiguousarray(rgb[::-1]), depth[::-1]

    def _render(self, arrays: list[Any]) -> None:
        """Closed parts without their backs, cloth, then hair: what hides most comes first."""
        gl, (closed, cloth, hair) = self._gl, self._counts
        gl.enable(gl.CULL_FACE)
        arrays[0].render(vertices=closed)
        if cloth:
            arrays[1].render(vertices=cloth, first=closed)
            gl.cull_face = "front"  # the insides of sleeves and collars
            arrays[1].render(vertices=cloth, first=closed)
            gl.cull_face = "back"
        gl.disable(gl.CULL_FACE)
        if hair:
            gl.enable_direct(_ALPHA_TO_COVERAGE)  # hair and lashes fade without sorting
            arrays[2].render(vertices=hair, first=closed + cloth)
            gl.disable_direct(_ALPHA_TO_COVERAGE)

    def _set(self, name: str, value: Any) -> None:
        """Set a uniform in every program that uses it."""
        plain = tuple(float(v) for v in value) if isinstance(value, np.ndarray) else value
        for program in (*self._programs, *self._shadow_programs):
            if name in program:
                program[name].value = plain


def _face_window(person: Person) -> tuple[tuple[float, float, float], tuple[float, float]]:
    """Middle and half axes (dm, rest pose) of a rounded window from the brows down that hair keeps out of."""
    face = person.base[list(FACE_VERTICES)].astype(np.float64)
    brows, chin = face[17:27], face[8]
    top = float(brows[:, 1].max()) + 0.08
    wide = 0.86 * float(np.ptp(face[:17, 0])) / 2
    middle = (float(brows[:, 0].mean()), float(chin[1]), float(face[36:48, 2].mean()) - 0.25)
    return middle, (wide, top - float(chin[1]))


def require_renderer() -> None:
    """Raise MissingPartError or SemibodyError, saying what to install, when nothing can be drawn."""
    _context().release()


def _context() -> Any:
    try:
        import moderngl
    except ImportError:
        raise MissingPartError("rendering people needs moderngl: pip install 'semibody[synth]'") from None
    try:
        return moderngl.create_context(standalone=True, backend="egl", require=330)  # type: ignore[arg-type]
    except Exception as error:  # the EGL loader raises plain Exception
        raise SemibodyError(
            f"no OpenGL through EGL ({error}); install it (Debian: apt install libegl1 libgl1-mesa-dri)"
        ) from None


@functools.lru_cache(maxsize=1)
def shared_stage(size: int) -> Stage:
    """This process's own Stage: opening one takes time, and drivers keep some of its memory for good."""
    return Stage(size)
