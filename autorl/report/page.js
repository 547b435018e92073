// The page of a session: data in, elements out. Text from runs is only ever set as text, never as HTML.
'use strict';
const $ = id => document.getElementById(id);
const POINTS = 200;
let data, shown, live = {running: []}, charts = {}, replayed = null;
let arms = new Map();       // label -> {curves, on}
let chosen = new Set();     // experiments added to the learning curves
let filter = 'all', metric = 'episode_return', picked = null;
const cards = new Map();    // n -> {card, text}: one element an experiment, kept while its data stays

function h(tag, more, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(more || {}))
    if (name in node && name !== 'style') node[name] = value; else node.setAttribute(name, value);
  node.append(...children.filter(c => c || c === 0));
  return node;
}
const color = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const num = v => v === null || v === undefined ? '' : Math.abs(v) >= 1000
  ? v.toLocaleString('en', {maximumFractionDigits: 0}) : v.toLocaleString('en', {maximumFractionDigits: 2});
const clock = s => s === null ? '' : s < 60 ? `${Math.round(s)} s` : s < 3600 ? `${Math.round(s / 60)} min`
  : `${Math.floor(s / 3600)} h ${String(Math.round(s % 3600 / 60)).padStart(2, '0')}`;
const look = e => e.state === 'taken back' ? 'back' : e.status;
const word = e => e.n === 0 && e.status === 'keep' ? 'baseline' : ['taken back', 'cancelled'].includes(e.state) ? e.state
  : {keep: 'kept', discard: 'discarded', crash: 'crashed'}[e.status] || e.status;
const scored = e => e.status !== 'crash' && e.avg_return !== null;
const runsOf = e => `${e.runs} run${e.runs === 1 ? '' : 's'}`;
const score = e => !scored(e) ? 'no score' : num(e.avg_return) + (e.stderr ? ` ± ${num(e.stderr)}` : '');
const named = e => `#${e.n} ${e.description}`.slice(0, 44);

// -- the top of the page ----------------------------------------------------------------------------

function top_() {
  const claim = data.claim, s = data.summary;
  document.title = `${data.env_id} · ${data.tag}`;
  $('where').textContent = `autoRL · ${data.env_id} · ${data.tag}` + (live.state ? ` · ${live.state}` : '');
  $('verdict').textContent = claim ? claim.shown
      ? `Shown on fresh seeds: ${num(claim.gain)} better than the baseline`
      : 'Measured again on fresh seeds: no gain was shown'
    : `${s.attempts} idea${s.attempts === 1 ? '' : 's'} tried, ${s.kept} kept; nothing is claimed yet`;
  $('words').replaceChildren(...data.words.map(text => h('p', {}, text)));
  const tiles = [['baseline', num(s.baseline) || '–'], ['best so far', num(data.best) || '–'],
    ['experiments', num(s.attempts)], ['kept', num(s.kept)], ['measured', clock(s.seconds)],
    ['spent', `$${s.cost_usd.toFixed(2)}`]];
  $('tiles').replaceChildren(...tiles.map(([k, v]) => h('div', {}, h('dt', {}, k), h('dd', {}, v))));
}

// -- charts -----------------------------------------------------------------------------------------

function chart(id, options, columns) {
  charts[id]?.destroy();
  const axis = (more, i) => ({stroke: color('soft'), font: '12px system-ui', labelFont: '12px system-ui', labelSize: 20, size: 30,
    grid: {stroke: i ? color('line') : 'transparent', width: 1}, ticks: {stroke: color('line'), width: 1, size: 4}, ...more});
  const width = $(id).clientWidth - 14, height = Math.max(230, Math.min(400, width * .48));
  options.axes = options.axes.map(axis);
  charts[id] = new uPlot({width, height, legend: {show: false}, ...options}, columns, $(id));
}
const values = (u, ticks) => ticks.map(v => Math.abs(v) >= 1e6 ? v.toExponential(1) : v.toLocaleString('en'));
const side = u => ({size: 58, values});

function drawProgress() {
  const all = data.experiments, [low, high] = data.limits || [0, 1], pad = (high - low) * .1 || 1;
  const goal = data.solved_at !== null && data.solved_at <= high + 1.5 * (high - low) ? data.solved_at : null;
  const kept = all.filter(e => e.status === 'keep' && e.state !== 'taken back' && scored(e));
  let at = 0, best = null;
  const line = all.map(e => (at < kept.length && kept[at].n === e.n && (best = kept[at++].avg_return), best));
  const draw = u => {
    const ctx = u.ctx, dpr = devicePixelRatio || 1, floor = u.bbox.top + u.bbox.height - 9 * dpr;
    const size = Math.max(.55, Math.min(1, u.bbox.width / dpr / all.length / 9)) * dpr;
    const place = (n, v) => [u.valToPos(n, 'x', true), v === null || v < u.scales.y.min ? floor : u.valToPos(v, 'y', true)];
    const dot = (x, y, r) => { ctx.beginPath(); ctx.arc(x, y, r, 0, 7); };
    ctx.save(); ctx.beginPath(); ctx.rect(u.bbox.left - 9, u.bbox.top, u.bbox.width + 18, u.bbox.height); ctx.clip();
    if (goal !== null) {
      const y = u.valToPos(goal, 'y', true);
      ctx.strokeStyle = ctx.fillStyle = color('goal'); ctx.setLineDash([6 * dpr, 4 * dpr]); ctx.beginPath();
      ctx.moveTo(u.bbox.left, y); ctx.lineTo(u.bbox.left + u.bbox.width, y); ctx.stroke(); ctx.setLineDash([]);
      ctx.font = `${12 * dpr}px system-ui`; ctx.textAlign = 'left'; ctx.fillText(`solved at ${num(goal)}`, u.bbox.left + 8 * dpr, y - 6 * dpr);
    }
    for (const e of all) {
      const c = ctx.strokeStyle = ctx.fillStyle = color({back: 'back', running: 'discard'}[look(e)] || look(e));
      ctx.lineWidth = 1.6 * dpr; ctx.globalAlpha = .5;
      for (const run of e.measured) if (run.counted && run.score !== null) { dot(...place(e.n, run.score), 2.1 * size); ctx.fill(); }
      ctx.globalAlpha = 1;
      if (!scored(e)) {
        if (e.status !== 'crash') continue;
        const [x, y] = place(e.n, null), r = 4 * size;
        ctx.beginPath(); ctx.moveTo(x - r, y - r); ctx.lineTo(x + r, y + r); ctx.moveTo(x + r, y - r); ctx.lineTo(x - r, y + r); ctx.stroke();
        continue;
      }
      dot(...place(e.n, e.avg_return), (e.status === 'keep' ? 5.4 : 4.4) * size);
      if (e.state === 'taken back' || e.avg_return < u.scales.y.min) { ctx.fillStyle = color('card'); ctx.fill(); ctx.stroke(); } else ctx.fill();
    }
    const e = all[picked];
    if (e) { ctx.strokeStyle = color('ink'); ctx.lineWidth = 2 * dpr; dot(...place(e.n, scored(e) ? e.avg_return : null), 9 * dpr); ctx.stroke(); }
    ctx.restore();
  };
  chart('progress', {
    scales: {x: {time: false, range: [-.7, Math.max(3, all.length - 1) + .7]},
      y: {range: [Math.min(low, goal ?? low) - pad, Math.max(high, goal ?? high) + pad]}},
    axes: [{label: 'experiment', incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500]}, {...side(), label: 'mean return'}],
    cursor: {drag: {x: false, y: false}, points: {show: false}, y: false},
    series: [{}, {stroke: color('keep'), width: 2, points: {show: false}, paths: uPlot.paths.stepped({align: 1})}],
    hooks: {draw: [draw], setCursor: [u => u.cursor.idx !== null && u.cursor.left >= 0 && pick(u.cursor.idx)]},
  }, [all.map(e => e.n), line]);
}

function pick(index) {
  if (index === picked || !data.experiments[index]) return;
  picked = index;
  showPicked();
  charts.progress.redraw(false, false);
}

function showPicked() {
  const e = data.experiments[picked];
  $('picked').replaceChildren(h('strong', {}, `#${e.n} ${e.description}`), ' ', h('span', {className: `tag ${look(e)}`}, word(e)),
    h('div', {}, `${score(e)}, ${runsOf(e)}`), e.hypothesis && h('div', {}, h('span', {className: 'note'}, 'Hypothesis: '), e.hypothesis),
    e.reason && h('div', {}, h('span', {className: 'note'}, 'Verdict: '), e.reason),
    h('button', {type: 'button', onclick: () => open_(e.n)}, `Open experiment ${e.n}`));
}

function open_(n) {
  if (filter !== 'all') { filter = 'all'; list(); }
  const card = cards.get(n).card;
  card.open = true;
  card.scrollIntoView({block: 'start', behavior: 'instant'});
  card.firstChild.focus();
}

function gatherArms() {
  const before = arms, by = n => data.experiments.find(e => e.n === n);
  arms = new Map();
  const add = (key, label, e, on) => { if (e) arms.set(key, {label, curves: e.curves, on: before.get(key)?.on ?? on}); };
  const {incumbent, champion} = data, newest = data.experiments.filter(e => e.curves[metric]).at(-1);
  add('e0', incumbent === 0 ? 'baseline and incumbent' : 'baseline', by(0), true);
  if (incumbent) add(`e${incumbent}`, `${champion === incumbent ? 'champion' : 'incumbent'} #${incumbent}`, by(incumbent), true);
  if (champion && champion !== incumbent) add(`e${champion}`, `champion #${champion}`, by(champion), true);
  if (!chosen.size && newest && !arms.has(`e${newest.n}`)) add(`e${newest.n}`, `newest ${named(newest)}`, newest, true);
  for (const n of chosen) if (!arms.has(`e${n}`)) add(`e${n}`, named(by(n)), by(n), true);
  for (const r of live.running) if (r.look?.curve?.length) add(`r${r.run}`, `now: run ${r.run} of #${r.n}`, {curves: {episode_return: r.look.curve}}, true);
}

function drawCurves() {
  gatherArms();
  const names = [...new Set([...arms.values()].flatMap(a => Object.keys(a.curves)))];
  names.sort((a, b) => (b === 'episode_return') - (a === 'episode_return'));
  if (!names.includes(metric) && names.length) metric = names[0];
  $('metric').replaceChildren(...(names.length ? names : ['no curve yet']).map(n => h('option', {value: n, selected: n === metric},
    n === 'episode_return' ? 'return of training episodes' : n.replaceAll('_', ' '))));
  $('arms').replaceChildren(...[...arms].map(([key, arm], i) => h('button', {type: 'button', className: 'chip', ariaPressed: String(arm.on),
    style: `--c: var(--arm${i % 6})`, onclick: () => { arm.on = !arm.on; drawCurves(); }}, h('i'), arm.label)));
  const unit = data.time_budget >= 600 ? 60 : 1;
  const x = Array.from({length: POINTS}, (_, i) => (i + .5) / POINTS * data.time_budget / unit);
  const list_ = [...arms.values()];
  chart('curves', {
    scales: {x: {time: false}},
    axes: [{label: unit === 60 ? 'minutes of training' : 'seconds of training'}, side()],
    series: [{}, ...list_.map((arm, i) => ({label: arm.label, stroke: color(`arm${i % 6}`), width: 2, show: arm.on, spanGaps: true, points: {show: false}}))],
  }, [x, ...list_.map(arm => arm.curves[metric] || Array(POINTS).fill(null))]);
}

// -- experiments ------------------------------------------------------------------------------------

const table = (columns, rows) => h('div', {className: 'scroll'}, h('table', {}, columns.some(Boolean) && h('tr', {},
  ...columns.map((c, i) => h('th', {className: rows[0]?.children[i]?.className || ''}, c))), ...rows));
const cells = texts => texts.map(text => h('td', {className: texts.length > 2 && /^[-−$\d.,% ±]+$/.test(text) ? 'n' : ''}, text));

function diff(text) {
  const kind = line => /^(---|\+\+\+|@@|…)/.test(line) ? 'at' : line[0] === '+' ? 'plus' : line[0] === '-' ? 'minus' : '';
  return h('pre', {tabIndex: 0, ariaLabel: 'diff'}, ...text.trimEnd().split('\n').map(line => h('span', {className: kind(line)}, line)));
}

function opened(e) {
  const parts = [], say = (title, ...nodes) => parts.push(h('h3', {}, title), ...nodes);
  if (e.hypothesis) say('Hypothesis', h('p', {}, e.hypothesis));
  if (e.expected) say('Expected', h('p', {}, e.expected));
  if (e.reason) say('Verdict', h('p', {}, e.reason));
  if (e.crash) {
    const c = e.crash;
    say('What ended it', h('div', {className: 'cause'}, h('p', {}, c.cause || 'no cause was recorded'),
      c.line && h('p', {}, `line ${c.line} of train.py: `, h('code', {}, c.code))), c.log && h('pre', {tabIndex: 0}, h('span', {style: 'white-space: pre'}, c.log)));
  }
  if (Object.keys(e.curves).length) parts.push(h('p', {}, h('button', {type: 'button', onclick: () => {
    chosen.add(e.n); drawCurves(); $('curves').scrollIntoView({block: 'center'}); }}, 'Draw its learning curve beside the incumbent’s')));
  const rows = e.measured.map(r => h('tr', {className: r.counted ? '' : 'out'}, ...cells([`run ${r.run}`, num(r.score) || '–', r.sd === null ? '' : num(r.sd),
    String(r.seed), clock(r.seconds), r.share === null ? '' : `${Math.round(100 * r.share)} %`]),
    h('td', {}, [r.counted ? r.status === 'ok' ? 'counted' : r.reason : `left out: ${r.why}`, ...r.flags].join('; '))));
  if (rows.length) say('Runs', table(['', 'score', 'sd of episodes', 'training seed', 'time', 'CPU share', ''], rows));
  if (e.controls.length) say('Controls', table([], e.controls.map(([kind, passed, why]) =>
    h('tr', {}, ...cells([kind.replaceAll('_', ' '), passed ? 'passed' : 'failed', why])))));
  if (e.diff) say(`What changed in train.py${e.parent === null ? '' : `, against #${e.parent}`}`, diff(e.diff));
  parts.push(h('p', {className: 'note'}, [e.commit && `commit ${e.commit.slice(0, 10)}`, e.proposer && `idea from ${e.proposer}`, e.at,
    clock(e.seconds), e.cost_usd ? `$${e.cost_usd.toFixed(2)}` : '', e.isolation && `isolation ${e.isolation}`].filter(Boolean).join(' · ')));
  return parts;
}

function cardOf(e) {
  const text = JSON.stringify(e), before = cards.get(e.n);
  if (before?.text === text) return before.card;
  const body = h('div', {className: 'opened'});
  const card = h('details', {id: `e${e.n}`}, h('summary', {}, h('span', {className: 'n'}, `#${e.n}`), h('span', {className: `tag ${look(e)}`}, word(e)),
    h('span', {className: 'title'}, e.description), h('span', {className: 'score'}, score(e))), body);
  const fill = () => { if (card.open && !body.firstChild) body.append(...opened(e)); };
  card.addEventListener('toggle', fill);
  if (before?.card.open) { card.open = true; fill(); }
  cards.set(e.n, {card, text});
  return card;
}

function list() {
  const kinds = ['all', ...new Set(data.experiments.map(word))];
  const count = k => k === 'all' ? data.experiments.length : data.experiments.filter(e => word(e) === k).length;
  $('filter').replaceChildren(...kinds.map(k => h('button', {type: 'button', ariaPressed: String(k === filter),
    onclick: () => { filter = k; list(); }}, `${k} ${count(k)}`)));
  const wanted = data.experiments.filter(e => filter === 'all' || word(e) === filter).map(cardOf).reverse();
  const there = [...$('experiments').children];
  if (wanted.length !== there.length || wanted.some((card, i) => card !== there[i])) $('experiments').replaceChildren(...wanted);
}

// -- the rest ---------------------------------------------------------------------------------------

function rest() {
  const section = (title, columns, rows, note) => [h('h2', {}, title), table(columns, rows.map(r => h('tr', {}, ...cells(r)))), ...(note ? [h('p', {className: 'note'}, note)] : [])];
  $('tables').replaceChildren(...data.tables.flatMap(t => section(...t)),
    ...(data.refused.length ? section('Ideas refused before a run', ['idea', 'why', 'from'], data.refused) : []),
    ...section('Costs', ['', ''], data.costs),
    ...section('Conditions and versions', ['', ''], Object.entries(data.versions).filter(([, v]) => v)));
  const there = new Set(data.experiments.map(look));
  $('key').replaceChildren(...[['keep', 'kept', ''], ['discard', 'discarded', ''], ['back', 'kept, later taken back', 'hollow'], ['crash', 'crashed, no score', 'cross'],
    ['keep', 'best so far', 'stroke']].filter(([c]) => there.has(c)).map(([c, text, kind]) => h('li', {}, h('i', {className: kind, style: `--c: var(--${c})`}, kind === 'cross' ? '×' : ''), text)));
  const replay = data.replay_at || data.replay;  // a framed page of its own; served, it has an address and travels once
  if (replay && replay !== replayed) {
    replayed = replay;
    $('replay').lastChild.replaceChildren(h('iframe', {title: 'replay', loading: 'lazy', sandbox: 'allow-scripts', [data.replay_at ? 'src' : 'srcdoc']: replay}));
    $('replay').hidden = false;
  }
}

function showNow() {
  $('now').hidden = !live.running.length;
  $('now').lastChild.replaceChildren(...live.running.map(r => {
    const l = r.look, what = !l ? 'starting' : l.phase !== 'training' ? l.phase
      : `${clock(l.elapsed)} of ${clock(l.time_budget)}${l.episode_return === null ? '' : `, return ${num(l.episode_return)}`}`;
    return h('div', {className: 'box'}, h('strong', {}, `#${r.n} ${r.title}`), h('div', {className: 'note'}, `run ${r.run} (${r.purpose}): ${what}`),
      h('progress', {max: l?.time_budget || 1, value: l ? Math.min(l.elapsed, l.time_budget) : 0, ariaLabel: 'share of the time budget'}));
  }));
}

function render() {
  if (!data.experiments[picked]) picked = data.experiments.findIndex(e => e.n === (data.champion ?? data.incumbent ?? 0));
  top_(); rest(); list(); drawProgress(); drawCurves();
  if (data.experiments[picked]) showPicked();
}

async function poll() {
  try { if (!document.hidden) await again(); }  // hidden: the machine is busy with runs
  finally { setTimeout(poll, 2000); }
}

async function again() {
  let now, fresh;
  try {
    now = await (await fetch('now.json')).json();
    if (!now.error && now.version !== shown) fresh = await (await fetch('data.json')).json();
    $('notice').textContent = now.error || '';
  } catch {
    $('notice').textContent = 'The server has ended: start `agent_loop.py serve` again; this page then goes on by itself.';
    return;
  }
  if (now.error) return;
  live = now;
  if (fresh) { data = fresh; shown = fresh.version; render(); }
  else { top_(); if (now.running.length) drawCurves(); }
  showNow();
}

async function start() {
  $('metric').addEventListener('change', event => { metric = event.target.value; drawCurves(); });
  $('progress').addEventListener('keydown', event => {
    const last = data.experiments.length - 1, to = {ArrowLeft: picked - 1, ArrowRight: picked + 1, Home: 0, End: last}[event.key];
    if (to !== undefined) { event.preventDefault(); pick(Math.max(0, Math.min(last, to))); }
    if (event.key === 'Enter' && data.experiments[picked]) { event.preventDefault(); open_(data.experiments[picked].n); }
  });
  $('progress').addEventListener('click', () => matchMedia('(hover: hover)').matches && data.experiments[picked] && open_(data.experiments[picked].n));
  const redraw = () => data && (drawProgress(), drawCurves());
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
  let width = innerWidth;
  addEventListener('resize', () => { if (innerWidth !== width) { width = innerWidth; redraw(); } });
  const packed = $('data').textContent.trim();
  if (!packed) return poll();
  if (!window.DecompressionStream) { $('notice').textContent = 'This browser is too old to unpack the page; any of 2023 or later can.'; return; }
  const bytes = Uint8Array.from(atob(packed), c => c.charCodeAt(0));
  data = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'))).json();
  render();
  if (/^#e\d+$/.test(location.hash)) { const n = Number(location.hash.slice(2)); if (cards.has(n)) open_(n); }
}
start();
