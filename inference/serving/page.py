"""Make the page at /, which shows the prediction for a dropped photo, and where the network looked."""

from __future__ import annotations

from common.html import escape, page
from inference.network import LoadedNetwork

__all__ = ['drop_page']

STYLE = """
#drop { display: grid; place-items: center; min-height: 12rem; border: 2px dashed var(--line); border-radius: 8px;
  background: var(--card); cursor: pointer; text-align: center; padding: 1rem; }
#drop.over { border-color: rgb(var(--heat)); }
#drop img { max-height: 20rem; width: auto; max-width: 100%; }
#answer { display: grid; grid-template-columns: auto 1fr auto; gap: .3rem .8rem; align-items: center; }
#answer .bar { background: var(--card); height: 1rem; border-radius: 3px; overflow: hidden; }
#answer .bar i { display: block; height: 100%; background: rgb(var(--heat)); }
#picture:empty { display: none; }
"""
SCRIPT = """
const drop = document.getElementById('drop'), file = document.getElementById('file');
const answer = document.getElementById('answer'), note = document.getElementById('note');
const picture = document.getElementById('picture');
let asked = 0;
function cell(text, kind) {
  const made = document.createElement('span');
  made.textContent = text;
  if (kind) made.className = kind;
  answer.append(made);
  return made;
}
function show(said) {
  for (const row of said.classes || said.boxes) {
    const share = row.probability === undefined ? row.score : row.probability;
    cell(row.class);
    const bar = document.createElement('i');
    bar.style.width = 100 * share + '%';
    cell('', 'bar').append(bar);
    cell((100 * share).toFixed(1) + ' %', 'number');
  }
  if (said.boxes && !said.boxes.length) note.textContent = 'Nothing found.';
  if (said.picture) {
    const image = new Image();
    image.src = said.picture;
    image.alt = said.shows;
    picture.append(image);
  }
  if (said.shows) note.textContent = said.shows;
}
async function ask(photo) {
  const mine = ++asked, image = new Image();
  image.alt = photo.name;
  image.src = URL.createObjectURL(photo);
  drop.replaceChildren(image);
  answer.replaceChildren(); picture.replaceChildren();
  note.textContent = 'Asking ...';
  try {
    const reply = await fetch('explain', {method: 'POST', body: photo});
    const said = await reply.json();
    if (mine !== asked) return;
    note.textContent = '';
    if (reply.ok) show(said); else note.textContent = said.error;
  } catch (error) {
    if (mine === asked) note.textContent = 'The server is not responding.';
  }
}
drop.onclick = () => file.click();
drop.onkeydown = event => { if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); file.click(); } };
file.onchange = () => { if (file.files.length) ask(file.files[0]); file.value = ''; };
for (const kind of ['dragover', 'dragleave', 'drop']) {
  document.addEventListener(kind, event => {
    event.preventDefault();
    drop.className = kind === 'dragover' ? 'over' : '';
    if (kind === 'drop' && event.dataTransfer.files.length) ask(event.dataTransfer.files[0]);
  });
}
"""


def drop_page(network: LoadedNetwork) -> bytes:
    """Return the page for this network. It is self-contained, and sends requests only to this server."""
    count = f', {len(network.class_names)} classes' if network.class_names else ''
    body = f"""<p class="faint">{escape(network.name)}, {network.task}{count}</p>
<div id="drop" role="button" tabindex="0">Drop a photo here (JPEG or PNG), or click to choose one.</div>
<input id="file" type="file" accept="image/jpeg,image/png" hidden>
<p id="note" aria-live="polite"></p>
<div class="grid"><div id="answer"></div><figure id="picture"></figure></div>
<p class="faint">From a shell: <code>curl --data-binary @photo.jpg ADDRESS/predict</code></p>"""
    return page('Ask the network', body, STYLE, SCRIPT)
