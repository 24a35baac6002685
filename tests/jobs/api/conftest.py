from tests.jobs.api.house import ada, house, house_folder, mallory

__all__ = ["ada", "house", "house_folder", "mallory"]
