// Notes which vendors' pixels report the order that its tag names. They do what they do without it; it throws nothing.
(() => {
  "use strict";

  const tag = document.currentScript;
  const settings = (tag && tag.dataset) || {};
  const order = settings.order;
  if (!order) return;

  const attempt = (act) => {
    try {
      return act();
    } catch (_) {}
  };

  // The visitor's answer, where kit.js and the server keep it.
  const allowed = () => {
    const answer = attempt(() => /(^|; )kit-consent=(\w+)/.exec(document.cookie)[2]);
    return !navigator.globalPrivacyControl && (answer || settings.consent) !== "opt_in" && answer !== "denied";
  };

  const noted = {};
  const note = (pixel) => {
    if (noted[pixel] || !allowed()) return;
    noted[pixel] = true;
    const told = {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ order_id: order, pixel }),
      credentials: "include",
      keepalive: true,
    };
    attempt(() => fetch(new URL("pixels", tag.src), told).catch(() => {}));
  };

  // A purchase, or this order by a name that vendors have for its id: in JSON, or in an address with its escapes.
  const plain = (text) => text.replace(/\W/g, "\\$&");
  const ids = plain(order) + "|" + plain(attempt(() => encodeURIComponent(order)) || order);
  const REPORT = new RegExp(
    '"(conv\\.)?purchase"|(order_?id|confirmationref|transactionid)(\\W|%(25)*\\w\\w){1,9}(' + ids + ")(?![\\w-])",
    "i"
  );
  const reports = (said) => REPORT.test(JSON.stringify(said));

  const heed = (owner, verb, tell) => {
    const own = owner[verb];
    if (!own.apply || own.kit === order) return;
    const heeded = function (...said) {
      const answer = own.apply(this, said);
      attempt(() => tell(said, answer));
      return answer;
    };
    heeded.kit = order;
    owner[verb] = heeded;
  };

  const listener = (pixel, find, verb, queue) => {
    let by;
    const look = (heard) => {
      const owner = find();
      heed(owner, verb, (said) => reports(said) && look(true));
      const own = owner[verb];
      // What stands in a stub's queue was sent by nobody: the vendor's own file is still to come, or is blocked.
      if (reports(attempt(() => queue(owner))) && (by || own) === own) by = own;
      else if ((by = by || heard)) note(pixel);
    };
    return look;
  };

  const place = (said) => reports(said) && note("rokt");
  const launched = (_, launcher) => launcher.then((made) => heed(made, "selectPlacements", place)).catch(() => {});

  const listeners = [
    listener("adroll", () => window.adroll, "track", (adroll) => [...adroll]),
    listener("rockerbox", () => window.RB, "track", (RB) => RB.queue),
    listener("rokt", () => window.mParticle, "logEvent", (mParticle) => mParticle.config.rq),
    listener("rokt", () => window.mParticle.Rokt, "selectPlacements"),
    () => heed(window.Rokt, "createLauncher", launched),
  ];
  const listen = () => listeners.forEach((look) => attempt(look));
  listen();
  // A snippet adds its vendor's file to the page: what it has queued is seen before that comes, and when it has come.
  attempt(() => new MutationObserver(listen).observe(document, { childList: true, subtree: true }));
  document.addEventListener("load", listen, true);

  // A report that had gone out before this file came shows in its address alone.
  const asked = ({ name }) => {
    const pixel = attempt(() => /^https:..([\w-]+\.)*(get)?(adroll|rokt|rockerbox)\.com\//.exec(name)[3]);
    if (pixel && REPORT.test(name)) note(pixel);
  };
  attempt(() =>
    new PerformanceObserver((list) => list.getEntries().forEach(asked)).observe({ type: "resource", buffered: true })
  );
})();
