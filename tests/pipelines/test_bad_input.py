"""What a build makes of raw files that are not as they should be: a row, or a message and no set."""
from tests import tiny

def test_x(tmp_path):
    vg = tiny.write_vg(tmp_path, [tiny.vg_image(1)], [tiny.vg_graph(1, tiny.vg_region(1, "a red cat on a mat"), tiny.vg_region(2, ""))])
    assert tiny.build(tmp_path, sources={"vg": vg}) == 0
    print(tiny.rejected(tmp_path), tiny.samples(tmp_path)["vg/1"].keys())
    assert 0
