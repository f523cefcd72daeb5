// Panoramas of viewpoints, decoded when they are needed: base64 in the page itself, or from the live server.

const Pictures = (() => {
  const KEPT = 32; // decoded pictures; at 1024 x 512 each takes 2 MB
  const loading = new Map();

  /** Name of a viewpoint's panorama, or null where there is none. */
  function keyOf(scanName, place) {
    const given = page.scans[scanName].panorama;
    if (given && !(given[place] >= 0)) return null;
    if (page.panoramas.url) {
      const viewpoint = page.scans[scanName].ids[place];
      return page.panoramas.url
        .replace("{scan}", encodeURIComponent(scanName))
        .replace("{viewpoint}", encodeURIComponent(viewpoint));
    }
    return given ? `panorama-${given[place]}` : null;
  }

  async function blobOf(key) {
    if (page.panoramas.url) {
      const answer = await fetch(key);
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      return answer.blob();
    }
    const element = byId(key);
    if (!element) throw new Error(`${key} is not in the page`);
    const bytes = Uint8Array.from(atob(element.textContent.trim()), (character) => character.charCodeAt(0));
    return new Blob([bytes], { type: "image/jpeg" });
  }

  /** Promise of the decoded picture (ImageBitmap). */
  function load(key) {
    if (!loading.has(key)) {
      if (loading.size >= KEPT) loading.delete(loading.keys().next().value);
      const promise = blobOf(key).then((blob) => createImageBitmap(blob));
      promise.catch(() => loading.delete(key));
      loading.set(key, promise);
    }
    return loading.get(key);
  }

  /** Whether any viewpoint of a scan has a picture. */
  function any(scanName) {
    return page.scans[scanName].ids.some((_, place) => keyOf(scanName, place) !== null);
  }

  return { keyOf, load, any };
})();
